"""The methods by name, each loaded only when it is asked for: what `unmask train METHOD` can train.

The options of a method are the keyword arguments of its class, so that they are written down once. A method from
outside the package is named as `module:Class`, or by its name if its distribution has an entry point of the group
`unmask.methods`.
"""

import inspect
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from unmask.errors import DataError
from unmask.plugins import Entry, Table

if TYPE_CHECKING:
    from unmask.networks.contract import Trainable

Value = str | int | float | bool
_GIVEN = ("generators", "classes")  # follow from the data, not from the user


@dataclass(frozen=True)
class Method:
    """One method: where its class stands (`module:Class`), where it is published, and the task that it is for."""

    name: str
    place: str
    source: str
    summary: str
    task: str = "forgery_detection"

    def load(self) -> "type[Trainable]":
        """The class.

        Raises:
            DataError: there is none at its place, or it is no network that the lab can train.
        """
        from unmask.networks.contract import Trainable

        made = TABLE.load(self.place)
        if not (isinstance(made, type) and issubclass(made, Trainable)):
            raise DataError(f"{self.place}: not a class derived from unmask.networks.contract.Trainable")
        return made


METHODS = {
    method.name: method
    for method in (
        Method("plain", "unmask.forgery.plain:Plain", "this project", "one convolutional network and a map"),
        Method(
            "deepfidelity",
            "unmask.forgery.deepfidelity:DeepFidelity",
            "Peng et al. 2023, arXiv 2312.04961",
            "graded fidelity by image quality; transformer with mirrored attention",
        ),
        Method(
            "acmf",
            "unmask.forgery.acmf:ACMF",
            "Liu et al. 2023, arXiv 2307.11438",
            "masked high frequencies, consistent attention",
        ),
        Method(
            "hfc",
            "unmask.forgery.hfc:HFC",
            "Liu et al. 2022, arXiv 2212.14629",
            "patches, DCT and descriptors; real or forged first, then by which generator",
        ),
        Method(
            "fedforgery",
            "unmask.forgery.fedforgery:FedForgery",
            "Liu et al. 2022, arXiv 2210.09563",
            "classifier on what an autoencoder cannot reproduce",
        ),
        Method(
            "mesonet",
            "unmask.forgery.mesonet:MesoNet",
            "Afchar et al. 2018, arXiv 1809.00888",
            "a small public network, for comparison",
        ),
        Method(
            "gend",
            "unmask.forgery.gend:GenD",
            "Yermakov et al. 2025, arXiv 2508.06248",
            "a frozen foundation encoder with its LayerNorms tuned, and a linear head",
        ),
        Method(
            "seqfakeformer",
            "unmask.edits.seqfakeformer:SeqFakeFormer",
            "Shao et al. 2022, arXiv 2207.02204",
            "sequence of edits from one scale, step by step",
            "edit_reading",
        ),
        Method(
            "mmnet",
            "unmask.edits.mmnet:MMNet",
            "Xia et al. 2023, arXiv 2307.02733",
            "sequence of edits from three scales and three readings; recovers the face",
            "edit_reading",
        ),
        Method(
            "resnet",
            "unmask.lab.classification.network:ResNet",
            "He et al. 2016, arXiv 1512.03385",
            "ResNet-18 for small pictures of several classes; with --robust and --ra as in ANCRA",
            "image_classification",
        ),
        Method(
            "inpainting",
            "unmask.lab.inpainting.network:LatentInpainting",
            "this project, after Rombach et al. 2022, arXiv 2112.10752",
            "latent diffusion that paints the surroundings of a face anew; the generator of adv-diffusion",
            "face_inpainting",
        ),
        Method(
            "sbka",
            "unmask.lab.search.sbka:SBKA",
            "Liu et al. 2023, arXiv 2312.10320",
            "student and teacher that learn from each other, one network for sketches and photos",
            "sketch_search",
        ),
        Method(
            "sketch-triplet",
            "unmask.lab.search.sketch_triplet:SketchTriplet",
            "Sain et al. 2023, arXiv 2303.13440",
            "triplets of a sketch, a photo of its class and one of another, for comparison",
            "sketch_search",
        ),
        Method(
            "sketch-face",
            "unmask.lab.search.sketch_face:SketchFace",
            "Chen et al. 2018, arXiv 1804.07573",
            "MobileFaceNet brought to sketches of faces by a contrastive loss",
            "sketch_search",
        ),
        Method(
            "dual-encoder",
            "unmask.lab.prompting.dual_encoder:DualEncoder",
            "this project, after Zhai et al. 2022, arXiv 2111.07991",
            "an image tower brought into a sentence encoder's space; a small vision-language model",
            "vision_language",
        ),
    )
}


@dataclass(frozen=True)
class Option:
    """One option of a method: name, type ("int", "float", "bool", "str" or the choices), default, one-line help."""

    name: str
    kind: type
    choices: tuple[str, ...]
    default: Value
    text: str = ""

    def read(self, text: str) -> Value:
        """The value that a text stands for.

        Raises:
            DataError: it stands for none.
        """
        try:
            if self.kind is bool:
                return {"true": True, "false": False}[text.lower()]
            value: Value = self.kind(text)
        except (ValueError, KeyError):
            raise DataError(
                f"{self.name}={text}: not {'true or false' if self.kind is bool else f'a {self.kind.__name__}'}"
            ) from None
        if self.choices and value not in self.choices:
            raise DataError(f"{self.name}={text}: one of {', '.join(self.choices)}")
        return value


TABLE: "Table[type[Trainable]]" = Table(
    "method", "unmask.methods", (Entry(method.name, method.place, method.summary) for method in METHODS.values())
)


def method_named(name: str) -> Method:
    """The method of a name: one of `METHODS`, an entry point's, or a class given as `module:Class`.

    Raises:
        DataError: there is none.
    """
    if name in METHODS:
        return METHODS[name]
    made = TABLE.load(name)
    place = name if ":" in name else TABLE.installed[name].target
    summary = (inspect.getdoc(made) or "").split("\n", 1)[0]
    return Method(name, place, "outside this package", summary, getattr(made, "task", "forgery_detection"))


def options_of(method: str) -> dict[str, Option]:
    """The options of a method, by name, in order: the arguments of its class, their help from its docstring.

    Raises:
        DataError: no such method, or an argument of its class can be no option.
    """
    made = method_named(method).load()
    constructor = made.__init__
    hints, texts = typing.get_type_hints(constructor), _argument_texts(inspect.getdoc(made) or "")
    options = {}
    for name, parameter in inspect.signature(constructor).parameters.items():
        if name in ("self", *_GIVEN) or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        hint: Any = hints.get(name)
        choices: tuple[Any, ...] = ()
        if typing.get_origin(hint) is Literal:
            choices = typing.get_args(hint)
            hint = type(choices[0])
        if hint not in (bool, int, float, str) or parameter.default is parameter.empty:
            raise DataError(
                f"{method}: its argument {name} must be a bool, int, float, str or Literal, with a default, as in "
                f"`{name}: int = 1`"
            )
        options[name] = Option(name, hint, choices, parameter.default, texts.get(name, ""))
    return options


def _argument_texts(docstring: str) -> dict[str, str]:
    """What the section "Args" of a docstring says of each argument, in one line."""
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in docstring.partition("\nArgs:\n")[2].splitlines():
        if line and not line.startswith("    "):
            break
        begun = re.match(r"    (\w+(?:, \w+)*): (.*)", line)
        if begun:
            names = begun[1].split(", ")
            texts |= dict.fromkeys(names, begun[2])
        elif line.strip():
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return texts


def read_options(method: str, settings: Sequence[str]) -> dict[str, Value]:
    """Options from texts "name=value".

    Raises:
        DataError: no such option, or not a value of it.
    """
    known, chosen = options_of(method), {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in known:
            raise DataError(f"{setting!r}: not NAME=VALUE with an option of {method}: {', '.join(known)}")
        chosen[name] = known[name].read(text)
    return chosen


def build(
    method: str,
    options: Mapping[str, Value] = types.MappingProxyType({}),
    generators: Sequence[str] = (),
    size: int | None = None,
) -> "Trainable":
    """A new network.

    Args:
        method: its name.
        options: of the method, by name; the others are at their defaults.
        generators: the forged families it is to learn, in the order of a batch's `families`, or the classes.
        size: side of its input; by default the method's own.

    Raises:
        DataError: no such method, no such option, or a size that the network cannot take.
    """
    made = method_named(method).load()
    unknown = sorted(set(options) - set(options_of(method)))
    if unknown:
        raise DataError(f"{method} has no option {', '.join(unknown)}; options are {', '.join(options_of(method))}")
    taken = inspect.signature(made.__init__).parameters
    given: dict[str, Any] = {name: tuple(generators) for name in _GIVEN if name in taken and generators}
    detector = made(**options, **given)
    if size is not None:
        if size % detector.step:
            raise DataError(f"size {size}: {method} takes multiples of {detector.step}")
        detector.size = size
    return detector


def input_size(method: str, options: Mapping[str, Value]) -> int:
    """Side in pixels of the faces that a method sees with some options."""
    return untrained(method, options).size


def untrained(method: str, options: Mapping[str, Value] = types.MappingProxyType({})) -> "Trainable":
    """A network with random weights: nothing is fetched."""
    return build(method, {**options, **({"weights": "none"} if "weights" in options_of(method) else {})})


def describe(names: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """All methods, or some: name, summary, source, input size, trainable parameters and options, ready for JSON."""
    methods = []
    for name in names or METHODS:
        method, detector = method_named(name), untrained(name)
        options = [
            {
                "name": option.name,
                "values": ", ".join(option.choices) or {"str": "text", "bool": "true, false"}.get(kind, kind),
                "default": str(option.default).lower() if option.kind is bool else option.default,
                "text": option.text,
            }
            for option in options_of(name).values()
            for kind in [option.kind.__name__]
        ]
        methods.append(
            {
                "name": name,
                "summary": method.summary,
                "source": method.source,
                "task": method.task,
                "size": detector.size,
                "parameters": sum(p.numel() for p in detector.parameters() if p.requires_grad),
                "options": options,
            }
        )
    return methods
