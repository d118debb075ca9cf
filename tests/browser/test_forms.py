"""The pages of tables and texts in a real Chromium: a form that fits the columns, and a box for a text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import modelport

from ..colours import served
from ..tables.conftest import pack_tables
from ..text import networks
from .conftest import Visit, Watch


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the hand-made tables and the text classifier; in place of the package's."""
    folder = tmp_path_factory.mktemp("forms")
    repo = pack_tables(folder)
    (folder / "words.txt").write_text("\n".join(networks.WORDS), encoding="utf-8")
    (folder / "mood.toml").write_text(networks.MOOD)
    modelport.pack(networks.mood(folder / "mood.onnx"), out=repo, recipe=folder / "mood.toml")
    with served(repo) as (address, _):
        yield address


def answered(page: Any, text: str) -> None:
    """Wait until the answer says so."""
    page.wait_for_function("(text) => document.getElementById('top').textContent === text", arg=text)


def test_the_form_has_a_field_for_each_column_and_answers_at_once(visit: Visit) -> None:
    page = visit("/models/houses")
    answered(page, "145")  # 10 * 5 - 28 + 20 * 3.5 + 0 + 3 + 50
    fields = page.locator("#row .field")
    assert fields.locator("> label:first-child").all_inner_texts() == [
        "rooms",
        "age",
        "income",
        "near",
        "garden",
    ]
    rooms, age = page.get_by_label("rooms"), page.get_by_label("age", exact=True)
    assert (rooms.get_attribute("min"), rooms.get_attribute("max"), rooms.input_value()) == ("1", "40", "5")
    assert age.get_attribute("step") == "1"
    assert "Rooms in the block, per household · a number, 1 to 40" in page.locator("#row").inner_text()
    near = page.get_by_label("near", exact=True)
    assert near.locator("option").all_inner_texts() == ["INLAND", "NEAR BAY", "ISLAND"]
    near.select_option("ISLAND")
    answered(page, "155")
    page.get_by_label("income is missing").check()
    answered(page, "85")
    assert page.get_by_label("income", exact=True).is_disabled()
    assert '"income"' not in page.locator("#code").inner_text()
    page.get_by_label("garden").uncheck()
    answered(page, "82")
    page.get_by_role("button", name="Typical values").click()
    answered(page, "145")
    assert page.locator("#bars").is_hidden()


def test_what_is_wrong_is_said_at_its_field(visit: Visit, watch: Watch) -> None:
    page = visit("/models/houses")
    answered(page, "145")
    age = page.get_by_label("age", exact=True)
    age.fill("400")
    page.wait_for_selector("[aria-invalid=true]")
    assert age.get_attribute("aria-invalid") == "true"
    assert "120" in page.locator(f"#{age.get_attribute('aria-describedby')}").inner_text()
    age.press("Enter")
    assert page.evaluate("document.activeElement.id") == age.get_attribute("id")
    age.fill("40")
    answered(page, "133")
    assert page.locator("[aria-invalid=true]").count() == 0
    # What the server alone refuses is said at the field too.
    watch.allow("status of 400")
    page.evaluate("document.querySelector('#row select').add(new Option('SEA', 'SEA'))")
    page.get_by_label("near", exact=True).select_option("SEA")
    page.wait_for_selector("#row select[aria-invalid=true]")
    assert "has no category 'SEA'" in page.locator("#row").inner_text()


def test_a_classification_shows_the_probabilities(visit: Visit) -> None:
    page = visit("/models/people", color_scheme="dark", viewport={"width": 390, "height": 800})
    answered(page, "yes")
    assert page.locator("#bars .name").all_inner_texts() == ["yes", "no"]
    assert page.locator("#sure").inner_text() == "88.1 %"
    # Other jobs are taken, so that there is a list of known ones and not a choice.
    job = page.get_by_label("job")
    assert job.get_attribute("list")
    job.fill("pilot")
    page.wait_for_function("() => document.getElementById('sure').textContent === '50.0 %'")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_text_is_classified_while_it_is_typed(visit: Visit, tmp_path: Path) -> None:
    page = visit("/models/mood")
    box = page.get_by_label("A text")
    box.fill("A good film!")
    answered(page, "liked")
    box.fill("bad, dull")
    answered(page, "disliked")
    assert "bad, dull" in page.locator("#code").inner_text()
    page.get_by_role("button", name="Clear").click()
    answered(page, "?")
    box.fill("<b>good</b>")
    box.press("Control+Enter")
    page.wait_for_function("() => document.getElementById('timing').textContent !== ''")
    assert page.locator("#says").inner_text()


def test_every_control_has_a_name(visit: Visit) -> None:
    for path in ("/models/houses", "/models/people", "/models/mood"):
        page = visit(path)
        page.wait_for_function("() => document.getElementById('timing') && document.querySelector('.facts')")
        nameless = page.evaluate(
            """() => [...document.querySelectorAll('main input, main select, main textarea, main button')]
              .filter((each) => each.checkVisibility() && !each.labels?.length
                && !each.textContent.trim() && !each.ariaLabel)
              .map((each) => each.outerHTML)"""
        )
        assert nameless == []
