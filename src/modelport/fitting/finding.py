"""What was found out about a reference, as a value: for a table, for JSON, for a recipe."""

from __future__ import annotations

import msgspec

from ..steps.step import PreStep, step_data


class Proof(msgspec.Struct, frozen=True):
    """The compiled steps beside the reference, on the user's samples."""

    samples: int
    equal: int
    """Samples whose every bit is equal."""
    largest: float
    """Difference in values, over all samples."""
    largest_levels: float
    """The same in levels of a pixel, 0 to 255."""
    share: float
    """Of values that are off by more than half a level."""
    worst: str
    """The sample that differs most; empty where none does."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The steps that a reference is."""

    reference: str
    takes: str
    ok: bool
    """Whether the steps give what the reference gives."""
    geometry: str
    kernel: str
    colours: str
    values: str
    layout: str
    steps: tuple[PreStep, ...] = ()
    """Empty where nothing came near."""
    output: str = ""
    """Datatype and shape of one output."""
    proof: Proof | None = None
    why: tuple[str, ...] = ()
    """Why the answer is no."""
    also: tuple[str, ...] = ()
    """What the pictures cannot tell apart from it."""
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, object]:
        """Plain values, for JSON."""
        whole: dict[str, object] = {
            name: msgspec.to_builtins(getattr(self, name))
            for name in self.__struct_fields__
            if name != "steps"
        }
        return {"schema": "modelport.fit-steps/1", **whole, "steps": plain_steps(self.steps)}


def plain_steps(steps: tuple[PreStep, ...]) -> list[dict[str, dict[str, object]]]:
    """The data form of steps without the parameters that have their default."""
    plain: list[dict[str, dict[str, object]]] = []
    for step, data in zip(steps, step_data(steps), strict=True):
        fields = {field.encode_name: field for field in msgspec.structs.fields(step)}
        parameters = {
            key: value
            for key, value in data[step.name].items()
            if fields[key].required or value != fields[key].default or key in ("kernel", "fill")
        }
        plain.append({step.name: parameters})
    return plain
