"""Where the forecast's traffic comes from: the source, else what watches kept, else it says that nothing is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from values import replace

from backout.errors import ProviderUnavailable, Unmeasured
from backout.model.guard.forecast import FIVE_PERCENT
from backout.model.guard.policy import GuardPolicy
from backout.report.guard.forecast import make_record
from backout.runbook.hindsight.forecast import foresee

from line import Story, watch

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.rotating("simulations", 3)


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A proven version and one just deployed, 30 requests/s."""
    return Story(tmp_path / "journal.sqlite")


@pytest.mark.long
def test_it_rests_on_what_the_source_counted(story: Story) -> None:
    """Rate and baseline are those of the last ten minutes (the policy's); nothing is changed."""
    story.world.clock.sleep(900)
    found = foresee(story.tools(), synthetic_per_s=1.0)
    assert found.today.rate == pytest.approx(30, rel=0.02)
    assert found.today.span_s == pytest.approx(600, abs=2)
    assert {row.version for row in found.today.baseline} == {story.bad.id}
    assert found.today.error_rate == pytest.approx(0.2, abs=0.01)
    assert found.outlooks[0].of(FIVE_PERCENT).same_as_today
    assert not story.world.activations
    assert make_record("production", found, GuardPolicy())["source_lag_s"] == 1.0


@pytest.mark.long
def test_without_an_answer_it_rests_on_what_watches_kept(story: Story) -> None:
    """The source is down: the counts of the last watch tell, and the person hears why."""
    watch(story.tools())

    def down(name: str) -> None:
        if name == "traffic.read":
            raise ProviderUnavailable("it does not answer", where="memory")

    story.world.before_call = down
    said: list[str] = []
    found = foresee(replace(story.tools(), say=said.append), synthetic_per_s=1.0)
    assert found.today.rate > 0
    assert "what watches kept" in said[0]


@pytest.mark.long
def test_without_a_source_the_newest_kept_counts_tell(story: Story) -> None:
    """A source that was taken out of the configuration a week ago: the last hour that was kept."""
    watch(story.tools())
    story.world.clock.sleep(7 * 86_400)
    found = foresee(replace(story.tools(), traffic=None), synthetic_per_s=1.0)
    assert found.today.rate == pytest.approx(30, rel=0.1)
    assert found.today.until < story.world.clock.now() - 6 * 86_400
    assert found.today.lag_s == 0.0


def test_nothing_was_counted(tmp_path: Path) -> None:
    """No source and no watch: it says what to set up."""
    story = Story(tmp_path / "journal.sqlite")
    story.path = tmp_path / "other.sqlite"
    with pytest.raises(Unmeasured) as error:
        foresee(replace(story.tools(), traffic=None), synthetic_per_s=1.0)
    assert "[environments.production.traffic]" in str(error.value.hint)
