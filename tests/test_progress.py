"""Progress: steps arrive, bars do not slow the work down, nothing is drawn where nobody looks."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fairsynth import progress
from fairsynth.progress import Step, bar, sub


def test_parts_fill_the_whole_in_order() -> None:
    heard: list[Step] = []
    for part in range(3):
        tell = sub(heard.append, "evaluate", part, 3)
        assert tell is not None
        for done in range(5):
            tell(Step("train", done + 1, 5, {"loss": done}))
    shares = [step.done / step.total for step in heard]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert {step.stage for step in heard} == {"evaluate"}
    assert heard[0].info == {"loss": 0}


def test_no_listener_stays_no_listener() -> None:
    assert sub(None, "evaluate") is None


def test_a_stage_without_work_does_not_divide_by_zero() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    with bar(console=console) as tell:
        tell(Step("empty", 0, 0))
        part = sub(tell, "whole")
        assert part is not None
        part(Step("empty", 0, 0))


class Clock:
    """Time that goes on only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_a_log_gets_a_line_now_and_then_with_the_time_left(clock: Clock) -> None:
    out = io.StringIO()
    with bar(console=Console(file=out, width=200)) as tell:
        for second in range(101):
            tell(Step("fit", second, 100, {"loss": 0.5}))
            clock.now += 1
    lines = out.getvalue().splitlines()
    assert 5 <= len(lines) <= 8
    assert lines[0] == "fit: 15 of 100, 85 s left, loss 0.5"


def test_a_resumed_stage_is_timed_from_where_it_resumed(clock: Clock) -> None:
    out = io.StringIO()
    with bar(console=Console(file=out, width=200)) as tell:
        for second in range(16):
            tell(Step("fit", 80 + second, 100))
            clock.now += 1
    assert out.getvalue() == "fit: 95 of 100, 5 s left\n"


def test_bars_are_drawn_ten_times_a_second_at_most(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    from rich.progress import Progress

    update = Progress.update
    monkeypatch.setattr(
        Progress, "update", lambda self, task, **given: (drawn.append(1), update(self, task, **given))[1]
    )
    with bar(console=Console(file=io.StringIO(), force_terminal=True)) as tell:
        for step in range(10_000):
            tell(Step("fit", step, 10_000))
            clock.now += 1e-4
    assert 5 <= len(drawn) <= 12


def test_the_end_of_a_stage_and_a_new_stage_are_always_drawn(clock: Clock) -> None:
    out = io.StringIO()
    with bar(console=Console(file=out, force_terminal=True, width=100)) as tell:
        tell(Step("fit", 1, 2))
        tell(Step("fit", 2, 2))
        tell(Step("distil", 1, 2))
        tell(Step("distil", 2, 2, {"loss": 0.25}))
    shown = out.getvalue()
    assert "distil" in shown
    assert shown.count("100 %") >= 2
    assert "loss 0.25" in shown


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with bar(quiet=True) as tell:
        tell(Step("fit", 1, 1))
    assert capsys.readouterr() == ("", "")
