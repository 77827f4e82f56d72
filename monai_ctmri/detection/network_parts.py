"""PyOD's detectors with a torch network taken apart into arguments, tensors and scikit-learn objects, and put together.

skops cannot store a network. Its tensors can be stored as they are, and the network they belong to follows from the
detector's arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from typing import Any

from monai_ctmri.detection.recipes import DETECTORS

__all__ = ["NETWORK_PARTS", "NetworkParts", "put_together", "take_apart"]

# PyOD's own verdict on the fitted rows; scoring does without, but a user of the PyOD object may ask for it.
_VERDICT = ("decision_scores_", "threshold_", "labels_", "_classes", "_mu", "_sigma")


@dataclass(frozen=True)
class NetworkParts:
    """What a detector is made of beside its constructor's arguments.

    Attributes:
        networks: name of the attribute that holds the network, or a list of networks.
        build: gives that attribute's value, untrained, for a detector with arguments and ``values`` in place.
        values: names of attributes that are numbers, lists, arrays or tensors.
        estimators: names of attributes that are scikit-learn objects, or lists of them.
    """

    networks: str
    build: Callable[[Any], Any]
    values: tuple[str, ...] = ()
    estimators: tuple[str, ...] = ()


def _reconstruction(detector: Any) -> Any:
    detector.build_model()
    return detector.model


def _deep_svdd(detector: Any) -> Any:
    return import_module("pyod.models.deep_svdd").InnerDeepSVDD(
        detector.n_features,
        use_ae=detector.use_ae,
        hidden_neurons=detector.hidden_neurons,
        hidden_activation=detector.hidden_activation,
        output_activation=detector.output_activation,
        dropout_rate=detector.dropout_rate,
        l2_regularizer=detector.l2_regularizer,
    )


def _lunar(detector: Any) -> Any:
    module = import_module("pyod.models.lunar")
    kind = module.SCORE_MODEL if detector.model_type == "SCORE" else module.WEIGHT_MODEL
    return kind(detector.n_neighbours)


def _deep_isolation(detector: Any) -> Any:
    build = import_module("pyod.models.dif").MLPnet
    return [
        build(
            n_features=detector.minmax_scaler.n_features_in_,
            n_hidden=detector.hidden_neurons,
            n_output=detector.representation_dim,
            activation=detector.hidden_activation,
            skip_connection=detector.skip_connection,
        )
        for _ in detector.iForest_lst
    ]


_MOMENTS = ("data_num", "feature_size", "X_mean", "X_std")
NETWORK_PARTS: Mapping[str, NetworkParts] = {
    "AutoEncoder": NetworkParts("model", _reconstruction, values=_MOMENTS),
    "VAE": NetworkParts("model", _reconstruction, values=_MOMENTS),
    "DeepSVDD": NetworkParts("model_", _deep_svdd, values=("n_samples_", "n_features_", "c_"), estimators=("scaler_",)),
    "LUNAR": NetworkParts("network", _lunar, estimators=("neigh", "scaler_")),
    "DIF": NetworkParts(
        "net_lst",
        _deep_isolation,
        values=("representation_mean_", "representation_scale_", "x_reduced_lst"),
        estimators=("iForest_lst", "minmax_scaler"),
    ),
}


def take_apart(name: str, detector: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Take a fitted detector of PyOD apart.

    Args:
        name: a key of :data:`NETWORK_PARTS`.
        detector: the fitted PyOD object.

    Returns:
        The constructor's arguments, the state (tensors, arrays, numbers), and the scikit-learn objects by name. The
        networks are to be scored on the CPU afterwards.
    """
    parts = NETWORK_PARTS[name]
    arguments = {**detector.get_params(deep=False)}
    if "device" in arguments:
        arguments["device"] = "cpu"
    held: Any = getattr(detector, parts.networks)
    networks: list[Any] = held if isinstance(held, list) else [held]
    # A compiled network keeps the one it was made of, whose names of tensors have no prefix.
    states = [dict(getattr(network, "_orig_mod", network).state_dict()) for network in networks]
    values = {key: getattr(detector, key) for key in (*parts.values, *_VERDICT) if hasattr(detector, key)}
    estimators = {key: getattr(detector, key) for key in parts.estimators if hasattr(detector, key)}
    return arguments, {"networks": states, "values": values}, estimators


def put_together(
    name: str, arguments: Mapping[str, Any], state: Mapping[str, Any], estimators: Mapping[str, Any]
) -> Any:
    """Give the detector that :func:`take_apart` took apart; no constructor of PyOD runs.

    PyOD's constructors seed the whole process. The networks are laid out without memory and take the stored tensors,
    so nothing is drawn, and arguments that do not fit the tensors cost nothing before they are refused.

    Raises:
        Exception: of any kind where the parts do not fit each other.
    """
    import torch

    parts, recipe = NETWORK_PARTS[name], DETECTORS[name]
    kind = getattr(import_module(recipe.module), recipe.class_name)
    detector = kind.__new__(kind)
    unknown = set(arguments) ^ (set(signature(kind.__init__).parameters) - {"self"})
    unknown |= (set(state["values"]) - {*parts.values, *_VERDICT}) | (set(estimators) - set(parts.estimators))
    if unknown:
        raise ValueError(f"{sorted(unknown)[0]} does not belong to {name}")
    for attributes in ({"device": "cpu"}, arguments, state["values"], estimators):
        vars(detector).update(attributes)
    with torch.device("meta"):
        built = parts.build(detector)
    networks = built if isinstance(built, list) else [built]
    for network, tensors in zip(networks, state["networks"], strict=True):
        network.load_state_dict(tensors, assign=True)
        network.eval()
    setattr(detector, parts.networks, built)
    return detector
