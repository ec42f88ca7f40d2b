from wardround.deploy import plan_words


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
