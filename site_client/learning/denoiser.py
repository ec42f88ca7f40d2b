"""The denoiser: a diffusion U-Net that draws image and label map together, under a site's prompt.

The label map rides along as one channel per foreground class, +1 inside and -1 outside, so a
generated pair comes with its own label. A **prompt** is a small matrix of tokens, the only thing in
the model that belongs to one site. It enters twice: every cross-attention layer reads its tokens,
and their mean modulates every residual block through the time embedding. Pixels are folded into
channels before the network (`folding`), which on a CPU costs a quarter of full resolution for the
same picture; large images into their slow frequencies alone.

The U-Net is MONAI's `DiffusionModelUNet` (Rombach et al. 2022, arXiv:2112.10752).
"""

from typing import cast

import torch
from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet, get_timestep_embedding
from torch import Tensor, nn

from wardround.shared.plan import Denoiser as DenoiserConfig
from wardround.shared.plan import Task
from wardround.site_client.learning.folding import Folding, padded
from wardround.site_client.learning.pool import Pool, labelled, side_by_side

# B batch, C channels (image then classes), X spatial axes, P prompt tokens, W prompt width


class Denoiser(nn.Module):
    """Predict the clean image-label pair, given a noisy one, the time step and a site's prompt."""

    def __init__(self, task: Task, config: DenoiserConfig) -> None:
        super().__init__()
        self.folding = Folding(task.spatial_dims, config.fold, config.frequencies)
        self.divisor = config.fold * 2 ** (len(config.channels) - 1)
        channels = task.drawn_channels * self.folding.numbers
        strength_C = self.folding.strength.repeat(task.drawn_channels)
        self.strength_CX = nn.Buffer(
            strength_C.view(-1, *[1] * task.spatial_dims), persistent=False
        )
        self.unet = DiffusionModelUNet(
            spatial_dims=task.spatial_dims,
            in_channels=channels,
            out_channels=channels,
            channels=config.channels,
            attention_levels=[
                level == len(config.channels) - 1 for level in range(len(config.channels))
            ],
            num_res_blocks=1,
            num_head_channels=32 if config.channels[-1] % 32 == 0 else 16,
            norm_num_groups=16,
            with_conditioning=True,
            cross_attention_dim=config.prompt_width,
        )
        self.modulation = nn.Linear(config.prompt_width, config.channels[0] * 4)

    def forward(self, noisy_BCX: Tensor, timesteps_B: Tensor, prompt_BPW: Tensor) -> Tensor:
        """Return the predicted clean pairs, shaped as `noisy_BCX`."""
        unet, size = self.unet, noisy_BCX.shape[2:]
        h = unet.conv_in(self._given(noisy_BCX))
        embedding = unet.time_embed(
            get_timestep_embedding(timesteps_B, unet.block_out_channels[0]).to(h.dtype)
        )
        embedding = embedding + self.modulation(prompt_BPW.mean(1))
        residuals = [h]
        for block in unet.down_blocks:
            h, skipped = block(hidden_states=h, temb=embedding, context=prompt_BPW)
            residuals.extend(skipped)
        h = unet.middle_block(hidden_states=h, temb=embedding, context=prompt_BPW)
        for block in unet.up_blocks:
            count = len(cast("nn.ModuleList", block.resnets))
            taken, residuals = residuals[-count:], residuals[:-count]
            h = block(
                hidden_states=h, res_hidden_states_list=taken, temb=embedding, context=prompt_BPW
            )
        whole = (slice(None), slice(None), *(slice(side) for side in size))
        return self.folding.unfold(unet.out(h) * self.strength_CX)[whole]

    def _given(self, noisy_BCX: Tensor) -> Tensor:
        """Return what the U-Net is given; frequencies with noise of 1 are brought to about 1."""
        folded_BCX = self.folding.fold(padded(noisy_BCX, self.divisor))
        if self.folding.frequencies is None:
            return folded_BCX
        return folded_BCX / (1 + self.strength_CX**2).sqrt()


def build_denoiser(task: Task, config: DenoiserConfig, seed: int) -> Denoiser:
    """Return an untrained denoiser whose initial weights follow from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Denoiser(task, config)


def new_prompt(config: DenoiserConfig, earlier: list[Tensor], generator: torch.Generator) -> Tensor:
    """Return a prompt (P, W) for a new site: the mean of the earlier ones plus noise."""
    noise = torch.randn((config.prompt_tokens, config.prompt_width), generator=generator)
    if not earlier:
        return noise
    return torch.stack(earlier).mean(0) + 0.3 * noise


def join(images_BCX: Tensor, targets_BKX: Tensor, num_images: int = 1) -> Tensor:
    """Return images and label maps as one tensor (B, C + classes of each, *X) in [-1, 1]."""
    maps_BMKX = targets_BKX.unflatten(1, (num_images, -1))[:, :, 1:]
    return torch.cat([images_BCX, maps_BMKX.flatten(1, 2) * 2 - 1], dim=1)


def separate(pairs_BCX: Tensor, num_classes: int, num_images: int = 1) -> Pool:
    """Undo `join`: clip the images, take the strongest class above zero, else background."""
    num_maps = num_classes * num_images
    images, maps = pairs_BCX[:, :-num_maps].clamp(-1, 1), pairs_BCX[:, -num_maps:]
    return side_by_side(
        [
            labelled(image, _strongest(map_), num_classes)
            for image, map_ in zip(
                images.chunk(num_images, dim=1), maps.chunk(num_images, dim=1), strict=True
            )
        ]
    )


def _strongest(maps_BKX: Tensor) -> Tensor:
    strength, index = maps_BKX.max(dim=1)
    return torch.where(strength > 0, index + 1, torch.zeros_like(index))
