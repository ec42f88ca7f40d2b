"""The segmenter, the denoiser with its site prompts, generated replay and the continual methods."""
