"""Annotated pictures: what is drawn, where, and that it can be read."""

from __future__ import annotations

import numpy as np
import pytest

from modelport.media.draw import Canvas, draw_caption, draw_detections, label_of
from modelport.media.palette import PALETTE, colour_of, font_for, text_colour


def found(label: str, box: list[float], *, index: int = 0, score: float = 0.8, **more: object) -> dict:
    return {"label": label, "class": index, "score": score, "box": box, **more}


def grey(width: int = 320, height: int = 240) -> np.ndarray:
    return np.full((height, width, 3), 120, np.uint8)


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Of WCAG 2.2."""

    def luminance(colour: tuple[int, ...]) -> float:
        parts = [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in colour]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_can_be_read_on_every_colour() -> None:
    assert min(contrast(colour, text_colour(colour)) for colour in PALETTE) >= 4.5


def test_a_class_keeps_its_colour() -> None:
    assert colour_of(3) == colour_of(23) == PALETTE[3] and len(set(PALETTE)) == 20
    one = draw_detections(grey(), [found("a", [50, 60, 150, 160], index=4)])
    other = draw_detections(grey(), [found("b", [9, 9, 20, 20]), found("a", [50, 60, 150, 160], index=4)])
    for picture in (one, other):
        assert tuple(picture[160, 100]) == colour_of(4)


def test_the_callers_picture_is_left_as_it_is() -> None:
    picture = grey()
    picture.flags.writeable = False
    drawn = draw_detections(picture, [found("a", [50, 60, 150, 160])], caption="12 ms")
    assert (picture == 120).all() and drawn.shape == picture.shape and drawn.dtype == np.uint8
    assert not np.array_equal(drawn, picture)
    assert np.array_equal(draw_detections(picture, []), picture)


@pytest.mark.parametrize(
    "box",
    [
        [0, 0, 5, 5],
        [310, 0, 319, 8],
        [0, 230, 4, 239],
        [-50, -50, 900, 900],
        [300, 235, 400, 300],
        [50, 50, 50, 50],
        [80, 60, 40, 20],
    ],
)
def test_labels_stay_in_the_picture(box: list[float]) -> None:
    canvas = Canvas(grey())
    canvas.detections([found("a rather long label", box)])
    for left, top, right, bottom in canvas._taken:
        assert left >= 0 and top >= 0 and right <= 320 and bottom <= 240


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (12, 12), (40, 30)])
def test_the_smallest_pictures_are_drawn_on(size: tuple[int, int]) -> None:
    drawn = draw_detections(grey(*size), [found("label" * 30, [0, 0, 9, 9], score=1.0)], caption="a\nb")
    assert drawn.shape == (size[1], size[0], 3)


def test_labels_lie_beside_one_another() -> None:
    canvas = Canvas(grey(640, 480))
    canvas.caption("12.3 ms")
    canvas.detections([found("person", [100, 100 + 2 * n, 200, 300], score=0.9 - 0.1 * n) for n in range(8)])
    places = canvas._taken
    assert len(places) == 9
    for number, one in enumerate(places):
        for other in places[:number]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart


def test_sizes_follow_the_picture() -> None:
    small, large = Canvas(grey(320, 240)), Canvas(grey(3840, 2160))
    assert small.stroke == 1 and Canvas(grey(640, 427)).stroke == 2  # of a usual photo its colour is seen
    assert small.text_size >= 11 and large.text_size > 4 * small.text_size and large.stroke > small.stroke


def test_a_track_is_named_and_coloured_by_its_number() -> None:
    assert label_of(found("goose", [0, 0, 1, 1], track=7)) == "#7 goose 0.80"
    box = [50.0, 60.0, 150.0, 160.0]
    trail = {2: [(10.0, 200.0), (50.0, 210.0), (200.0, 210.0)]}
    drawn = draw_detections(grey(), [found("goose", box, track=2)], trails=trail)
    assert tuple(drawn[160, 100]) == colour_of(2) and tuple(drawn[210, 150]) == colour_of(2)


def test_lines_and_zones_are_drawn_with_their_names() -> None:
    canvas = Canvas(grey())
    canvas.line([(10, 200), (300, 200)], colour_of(1), "in 3 out 4")
    canvas.zone([(200, 20), (300, 20), (300, 120)], colour_of(2), "pond")
    drawn = canvas.picture()
    assert tuple(drawn[200, 250]) == colour_of(1)
    assert tuple(drawn[60, 280]) != (120, 120, 120) and len(canvas._taken) == 2


def test_letters_that_no_face_has_give_the_class_number(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelport.media import palette

    monkeypatch.setattr(palette, "_others", lambda size: ())
    assert font_for("行人", 12) is None and font_for("Gänse – 3", 12) is not None
    named = draw_detections(grey(), [found("class 5", [50, 60, 150, 160], index=5)])
    assert np.array_equal(draw_detections(grey(), [found("行人", [50, 60, 150, 160], index=5)]), named)
    assert draw_caption(grey(), "行人").shape == (240, 320, 3)
