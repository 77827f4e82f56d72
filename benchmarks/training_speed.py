"""Training steps a second of the cross-modal denoiser: float32 and bfloat16, both memory layouts, one and two threads.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/training_speed.py

A step is the forward pass, the loss, the backward pass and the optimiser's step on a batch of 16 random pairs of 128 x
128 pixels; loading and augmentation are not part of it. Run it on an idle machine. The bundle's default is what
``monai_ctmri.engines.precision.prefers_bfloat16`` says of this machine, in channels_last; it is marked.
"""

from __future__ import annotations

import argparse
import time

import torch

from monai_ctmri.engines.precision import prefers_bfloat16
from monai_ctmri.losses import LaplaceLoss
from monai_ctmri.networks import CrossModalDenoiser


def steps_a_second(bfloat16: bool, channels_last: bool, size: int, batch: int, seconds: float) -> float:
    """Measure one setting, after three steps that do not count."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = CrossModalDenoiser().to(memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    loss = LaplaceLoss()
    image = torch.rand(batch, 2, size, size).to(memory_format=layout)
    done, start = -3, 0.0
    while done < 3 or time.perf_counter() - start < seconds:
        if done == 0:
            start = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            pred = network(image)
        loss(pred.float(), image).backward()
        optimizer.step()
        done += 1
    return done / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0, help="for each setting")
    options = parser.parse_args()
    print("| precision | layout | 1 thread | 2 threads |\n| --- | --- | --- | --- |")
    default = prefers_bfloat16()
    for bfloat16 in (False, True):
        for channels_last in (False, True):
            cells = []
            for threads in (1, 2):
                torch.set_num_threads(threads)
                cells.append(steps_a_second(bfloat16, channels_last, options.size, options.batch, options.seconds))
            name, layout = "bfloat16" if bfloat16 else "float32", "channels_last" if channels_last else "contiguous"
            mark = "**" if channels_last and bfloat16 == default else ""
            print(f"| {mark}{name}{mark} | {mark}{layout}{mark} | {cells[0]:.2f} | {cells[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
