import pytest

from wardround.shared import plan as plans
from wardround.shared.errors import PlanError
from wardround.shared.formal_dp import covers_segmenter, guarantee_of, note_of, promise_of


@pytest.fixture
def parse(tiny_plan):
    """Return the tiny plan with `[privacy]` and a denoiser's mode."""

    def made(mode: str = "frozen", method: str = "smd", **privacy: object) -> plans.StudyPlan:
        content = tiny_plan.model_dump(mode="json")
        content["denoiser"]["mode"] = mode
        content["method"]["name"] = method
        content["privacy"] |= {"dp": True, **privacy}
        return plans.parse(content, origin="test")

    return made


def test_a_plan_gives_no_guarantee_unless_it_says_so(tiny_plan):
    assert promise_of(tiny_plan) == "no"
    assert guarantee_of(tiny_plan, ("ada",)) is None
    assert "No formal privacy guarantee is given" in note_of(tiny_plan)


def test_the_prompt_of_every_visit_but_the_first_has_the_guarantee(parse):
    plan = parse(epsilon=3.0, delta=1e-6)
    assert guarantee_of(plan, ()) is None
    found = guarantee_of(plan, ("ada",))
    assert found is not None
    assert 2.9 < found.epsilon <= 3.0
    assert found.delta == 1e-6
    assert promise_of(plan).startswith("yes (epsilon 3, delta 1e-06) for the prompt of each visit")
    assert "no for the first visit, and for segmenter" in promise_of(plan)
    assert "No formal privacy guarantee" not in note_of(plan)


def test_a_segmenter_that_sees_drawn_pairs_alone_is_covered_too(parse):
    promise = promise_of(parse(segmenter="drawn"))
    assert "for prompt, segmenter and labeller of each visit but the first" in promise
    assert promise.endswith("no for the first visit, and for scores of any")


def test_only_where_there_is_a_guarantee_is_a_segmenter_covered(parse):
    assert covers_segmenter(parse(segmenter="drawn"), ("ada",))
    assert not covers_segmenter(parse(segmenter="drawn"), ())  # trains the denoiser itself
    assert not covers_segmenter(parse(method="finetune", segmenter="drawn"), ("ada",))
    assert not covers_segmenter(parse(), ("ada",))


def test_a_method_without_prompts_has_none(parse):
    plan = parse(method="finetune")
    assert guarantee_of(plan, ("ada",)) is None
    assert promise_of(plan) == "no (the method 'finetune' has no prompt)"


@pytest.mark.parametrize(
    ("privacy", "mode", "why"),
    [
        ({}, "distill", r"needs denoiser\.mode = 'frozen'"),
        ({"epsilon": 9.0}, "frozen", "is below privacy"),
        ({"epsilon": 1e-9, "delta": 1e-12}, "frozen", "no noise"),
        ({"delta": 0.5}, "frozen", "delta"),
        ({"dp": False, "segmenter": "drawn"}, "frozen", r"set privacy\.dp = true"),
        ({"sampling_rate": 0.0}, "frozen", "sampling_rate"),
    ],
)
def test_a_promise_that_could_not_be_kept_is_refused(parse, privacy, mode, why):
    with pytest.raises(PlanError, match=why):
        parse(mode, **privacy)


def test_an_autoencoder_s_prompts_are_refused_rather_than_trained_without(parse):
    with pytest.raises(PlanError, match="vae-replay"):
        parse(method="vae-replay")
