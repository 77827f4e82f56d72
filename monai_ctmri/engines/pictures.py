"""What a network makes of a few validation cases, as pictures in TensorBoard."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.handlers import TensorBoardHandler

from monai_ctmri import keys
from monai_ctmri.errors import InputError

__all__ = ["TensorBoardPictures"]


class TensorBoardPictures(TensorBoardHandler):
    """Draw input, prediction and residual of the same few cases each time an evaluator has run.

    MONAI's TensorBoardImageHandler draws image, label and output of one case a validation as they are; it knows no
    residual and takes the log-scale channels of a prediction for pictures.

    One panel a case, under the tag ``<tag>/<case>``: a row a modality; left the input, in the middle the prediction,
    right the absolute residual. The first channels of a prediction are its means, as many as the image has modalities;
    further ones are not drawn. Of a volume the middle slice is drawn.

    Attach it in the first process alone (``_disabled_: $not @main_process``).

    Args:
        log_dir: folder of the TensorBoard events.
        cases: number of cases, the first of each validation.
        interval: epochs between pictures.
        modalities: how many channels of the image are modalities; None takes all.
        residual_gain: factor on the residual, for the eye; what passes 1 is white.
        tag: prefix of the tags.
        summary_writer: an open writer instead of one on ``log_dir``.

    Raises:
        InputError: for less than one case, interval or modality, or a gain that is not positive.
    """

    def __init__(
        self,
        log_dir: str = "./runs",
        cases: int = 4,
        interval: int = 1,
        modalities: int | None = None,
        residual_gain: float = 4.0,
        tag: str = "validation",
        summary_writer: Any = None,
    ) -> None:
        for name, value in (("cases", cases), ("interval", interval), ("modalities", modalities)):
            if value is not None and value < 1:
                raise InputError.about(name, f"got {value}", "give 1 or more")
        if not residual_gain > 0:
            raise InputError.about("residual_gain", f"got {residual_gain}", "give a positive factor")
        super().__init__(summary_writer=summary_writer, log_dir=log_dir)
        self.cases = cases
        self.interval = interval
        self.modalities = modalities
        self.residual_gain = residual_gain
        self.tag = tag
        self._panels: dict[str, torch.Tensor] = {}

    def attach(self, engine: Engine) -> None:
        """Collect from each batch of ``engine`` (an evaluator with decollation), draw when it is through."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._draw)

    def _start(self, engine: Engine) -> None:
        self._panels = {}

    def _collect(self, engine: Engine) -> None:
        if engine.state.epoch % self.interval:
            return
        cases: Any = engine.state.batch
        outputs: Any = engine.state.output
        for case, output in zip(cases, outputs, strict=True):
            if len(self._panels) == self.cases:
                return
            name = str(case.get(keys.CASE, len(self._panels)))
            self._panels[name] = self._panel(output[keys.IMAGE], output[keys.PRED])

    def _panel(self, image: torch.Tensor, pred: torch.Tensor) -> torch.Tensor:
        """[1, M * H, 3 * W] in [0, 1]."""
        count = self.modalities or image.shape[0]
        given, mean = (torch.as_tensor(part).detach().float().cpu()[:count] for part in (image, pred))
        if given.ndim == 4:
            given, mean = (part[..., part.shape[-1] // 2] for part in (given, mean))
        residual = (given - mean).abs() * self.residual_gain
        rows = torch.cat([given, mean, residual], dim=2).clamp(0.0, 1.0)
        return rows.reshape(1, -1, rows.shape[2])

    def _draw(self, engine: Engine) -> None:
        for name, panel in self._panels.items():
            self._writer.add_image(f"{self.tag}/{name}", panel, engine.state.epoch)
        if self._panels:
            self._writer.flush()
