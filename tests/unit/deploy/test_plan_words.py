from wardround.deploy import plan_words
from wardround.shared import plan as plans


def _one_line(text):
    return " ".join(text.split())


def test_a_plan_is_told_in_words_with_its_bytes_and_digest(tiny_plan):
    text = _one_line(plan_words.write(tiny_plan))
    assert "Formal DP: no." in text
    assert "No image, label map, file name or case identifier." in text
    assert "prompt 64 bytes" in text  # 2 tokens of 8 numbers of 4 bytes
    assert "Scores 4 times" in text
    assert text.endswith(f"digest {tiny_plan.digest()}")


def test_a_method_without_a_denoiser_draws_nothing(tiny_plan):
    method = tiny_plan.method.model_copy(update={"name": "finetune"})
    text = _one_line(plan_words.write(tiny_plan.model_copy(update={"method": method})))
    assert "denoiser" not in text
    assert "prompt" not in text


def test_a_method_that_hands_cases_on_is_said_to_break_the_rule(tiny_plan):
    method = tiny_plan.method.model_copy(update={"name": "joint"})
    text = _one_line(plan_words.write(tiny_plan.model_copy(update={"method": method})))
    assert "'joint' BREAKS the rule that no image leaves a site" in text


def test_a_method_that_grows_decoders_tells_what_of_them_leaves(tiny_plan):
    config = tiny_plan.method.model_copy(
        update={"name": "incremental-decoders", "decoder_widths": (0.5,)}
    )
    text = _one_line(plan_words.write(tiny_plan.model_copy(update={"method": config})))
    # Two widths are tried and one of them is trained, two steps each.
    assert "a decoder of this site's own, and narrower ones, at most 6 steps" in text
    assert ", decoder (at most) " in text
    assert "what this site's images are like: mean and variance" in text


def test_a_plan_whose_segmenters_see_no_case_says_so(tiny_plan):
    content = tiny_plan.model_dump(mode="json")
    content["denoiser"]["mode"] = "frozen"
    content["privacy"] |= {"dp": True, "segmenter": "drawn"}
    told = _one_line(plan_words.write(plans.parse(content, origin="test")))
    assert "if it is the first, else images generated under its own prompt alone" in told
    assert "for prompt, segmenter and labeller of each visit but the first" in told
    assert "so the guarantee covers them too" in told
