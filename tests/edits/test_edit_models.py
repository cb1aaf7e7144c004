"""The conformance battery: what every reader of edit sequences must do, whatever its method (see `readers.py`)."""

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from driven_heads import compare_extremes
from edit_models import LARGE, READERS, Candidate
from edited_faces import edited_faces
from resuming import resumes_as_if_nothing_had_happened
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from unmask.edits.labels import all_sequences, place_of
from unmask.edits.model import BATCH, EditSequenceOutput
from unmask.lab.edits.config import EditTrainConfig
from unmask.lab.edits.edited_faces import CELLS, NOT_KNOWN, PER_EDIT, UNION
from unmask.lab.edits.feed import EditFeed
from unmask.lab.edits.task import EditTask
from unmask.lab.engine import save_weights

pytestmark = [pytest.mark.lab, pytest.mark.slow]
everyone = pytest.mark.parametrize("candidate", READERS, ids=str)
those_that_say_where = pytest.mark.parametrize("candidate", [one for one in READERS if one.says_where], ids=str)
those_that_make_packs = pytest.mark.parametrize(
    "candidate", [one for one in READERS if one.says_where and one.recovers], ids=str
)
those_that_recover = pytest.mark.parametrize("candidate", [one for one in READERS if one.recovers], ids=str)

SIZE, HALF, MASK_CELLS = 64, 32, 32
# Untouched, one edit, both orders of two, and longer ones.
SEQUENCES = torch.tensor(
    [
        [0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [1, 2, 0, 0, 0],
        [2, 1, 0, 0, 0],
        [3, 5, 4, 0, 0],
        [4, 1, 5, 2, 0],
        [1, 2, 3, 4, 5],
        [5, 4, 3, 2, 1],
    ]
)
PLACES = torch.tensor([place_of(row) for row in SEQUENCES.tolist()])
COLOURS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1]])


def pictures(count: int, seed: int = 0, size: int = SIZE) -> Tensor:
    """(count, 3, size, size) in [0, 1]: patchy pictures with fine texture, none like another."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.rand((count, 3, 4, 4), generator=generator)
    ground = nn.functional.interpolate(patches, size=size, mode="bilinear")
    return (0.8 * ground + 0.2 * torch.rand(ground.shape, generator=generator)).clamp(0, 1)


def batch_of(size: int = SIZE) -> dict[str, Tensor]:
    """A face for each of SEQUENCES as the engine gives it: a square for each edit, in its row and the step's column."""
    originals, square = pictures(len(SEQUENCES), size=size), size // 5
    faces, masks = originals.clone(), torch.zeros(len(SEQUENCES), 5, size, size)
    for face, sequence in enumerate(SEQUENCES.tolist()):
        for step, edit in enumerate(number for number in sequence if number):
            row, column = (slice(square * place, square * (place + 1)) for place in (edit - 1, step))
            faces[face, :, row, column] = COLOURS[edit - 1].view(3, 1, 1)
            masks[face, edit - 1, row, column] = 1
    masks = nn.functional.adaptive_avg_pool2d(masks, MASK_CELLS)
    return {
        "faces": faces,
        "sequences": SEQUENCES,
        "masks": masks,
        "unions": masks.amax(1, keepdim=True),
        "originals": originals,
        "paired": torch.ones(len(SEQUENCES)),
        "progress": torch.tensor(0.5),
    }


def some_of(batch: dict[str, Tensor], some: slice) -> dict[str, Tensor]:
    return {name: value[some] if value.ndim else value for name, value in batch.items()}


@cache
def _made(candidate: Candidate) -> Any:
    torch.manual_seed(0)
    return candidate.make().eval()


@pytest.fixture
def made(candidate: Candidate) -> Any:
    """An untrained reader in evaluation mode."""
    return copy.deepcopy(_made(candidate))


def losses_of(reader: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(3)  # some readers draw faces
    losses: dict[str, Tensor] = reader.training_losses(batch)
    return losses


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


@torch.no_grad()
def read(reader: Any, faces: Tensor) -> EditSequenceOutput:
    output: EditSequenceOutput = reader(faces)
    return output


def parts_of(output: EditSequenceOutput) -> dict[str, Tensor]:
    """What is said, by name; what is not said is left out."""
    return {name: value for name, value in vars(output).items() if value is not None}


def assert_shapes(candidate: Candidate, output: EditSequenceOutput, count: int) -> None:
    shapes: dict[str, tuple[int, ...]] = {"scores": (count, 326)}
    if candidate.says_where:
        shapes["areas"] = (count, 5, SIZE // 4, SIZE // 4)
    if candidate.recovers:
        shapes["recovered"] = (count, 3, SIZE, SIZE)
    assert {name: tuple(value.shape) for name, value in parts_of(output).items()} == shapes
    assert all(value.isfinite().all() for value in parts_of(output).values())


@everyone
@pytest.mark.parametrize("count", [0, 1, 5])
def test_outputs_have_their_shapes_and_are_finite(candidate: Candidate, made: Any, count: int) -> None:
    assert_shapes(candidate, read(made, pictures(count)), count)


@pytest.mark.parametrize("candidate", LARGE, ids=str)
def test_the_papers_sizes_give_outputs_of_the_same_shapes(candidate: Candidate) -> None:
    reader = candidate.make().eval()
    assert reader.size == 256
    assert_shapes(candidate, read(reader, pictures(1)), 1)


@everyone
def test_it_says_how_faces_are_normalised(candidate: Candidate, made: Any) -> None:
    assert len(made.mean) == len(made.std) == 3
    assert all(0 <= value <= 1 for value in made.mean) and all(0 < value <= 1 for value in made.std)
    assert made.size % made.step == 0


@everyone
@pytest.mark.parametrize("count", [0, 1, 5])
def test_reading_greedily_gives_edits_followed_by_zeros(candidate: Candidate, made: Any, count: int) -> None:
    with torch.no_grad():
        edits = made.greedy(pictures(count))
    assert edits.shape == (count, 5) and edits.dtype == torch.int64
    assert ((edits >= 0) & (edits <= 5)).all()
    assert ((edits[:, 1:] == 0) | (edits[:, :-1] > 0)).all()


@everyone
def test_every_parameter_learns_but_those_named_with_their_reason(candidate: Candidate, made: Any) -> None:
    # In evaluation mode: dropout could hide a parameter.
    total(losses_of(made, batch_of())).backward()
    for name, parameter in made.named_parameters():
        if name.startswith(candidate.idle):
            assert parameter.grad is None, name
            continue
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if name.endswith(candidate.shifted):
            assert parameter.grad.abs().max() < 1e-6, name  # at most 2e-9 (measured); that of others at least 1e-5
        else:
            assert parameter.grad.abs().max() > 1e-6, name


@everyone
def test_it_repeats_itself(candidate: Candidate, made: Any) -> None:
    faces = pictures(4)
    one, two = parts_of(read(made, faces)), parts_of(read(made, faces))
    assert all(torch.equal(one[name], two[name]) for name in one)


@everyone
def test_one_seed_makes_one_reader(candidate: Candidate) -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(candidate.make().state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


@everyone
def test_a_face_is_read_alone(candidate: Candidate, made: Any) -> None:
    faces = pictures(5)
    together, apart = parts_of(read(made, faces)), [parts_of(read(made, face[None])) for face in faces]
    for name, value in together.items():
        torch.testing.assert_close(value, torch.cat([one[name] for one in apart]), rtol=1e-5, atol=1e-4)


@everyone
def test_the_order_does_not_matter(candidate: Candidate, made: Any) -> None:
    faces, order = pictures(5), torch.tensor([3, 1, 4, 0, 2])
    straight, mixed = parts_of(read(made, faces)), parts_of(read(made, faces[order]))
    for name, value in straight.items():
        torch.testing.assert_close(value[order], mixed[name], rtol=1e-5, atol=1e-4)


@everyone
def test_different_faces_are_told_apart(candidate: Candidate, made: Any) -> None:
    faces = pictures(5)
    outputs = parts_of(read(made, faces))
    if candidate.recovers:
        outputs["recovered"] = outputs["recovered"] - faces  # beside what is handed through
    assert all(value.std(0).max() > 1e-3 for value in outputs.values())


@everyone
def test_its_state_comes_back(candidate: Candidate, made: Any, tmp_path: Path) -> None:
    faces = pictures(4)
    outputs = parts_of(read(made, faces))
    torch.manual_seed(7)
    other = candidate.make().eval()
    other.load_state_dict(made.state_dict())
    assert all(torch.equal(value, outputs[name]) for name, value in parts_of(read(other, faces)).items())
    # Kept in half precision, which moves what an untrained reader says by up to 0.0017 (measured).
    save_weights(made, tmp_path / "weights.safetensors")
    other.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for name, value in parts_of(read(other, faces)).items():
        torch.testing.assert_close(value, outputs[name], rtol=0, atol=0.005)


@everyone
@pytest.mark.parametrize("kind", ["mirrored", "grey", "black", "white", "one colour", "channels last"])
def test_unusual_faces_get_a_finite_answer(candidate: Candidate, made: Any, kind: str) -> None:
    faces = pictures(3)
    unusual = {
        "mirrored": faces.flip(3),
        "grey": faces.mean(1, keepdim=True).expand_as(faces),
        "black": torch.zeros_like(faces),
        "white": torch.ones_like(faces),
        "one colour": torch.zeros_like(faces) + torch.tensor([0.8, 0.5, 0.3]).view(1, 3, 1, 1),
        "channels last": faces.contiguous(memory_format=torch.channels_last),
    }[kind]
    output = read(made, unusual)
    assert_shapes(candidate, output, 3)
    usual = parts_of(read(made, faces)) if kind == "channels last" else {}
    for name, value in parts_of(output).items():
        if usual:
            torch.testing.assert_close(value, usual[name], rtol=1e-4, atol=1e-4)
        if kind in ("black", "white", "one colour"):
            torch.testing.assert_close(value, value[:1].expand_as(value), rtol=1e-5, atol=1e-4)


@those_that_make_packs
def test_the_pack_says_what_torch_says_where_heads_are_extreme(candidate: Candidate, made: Any) -> None:
    """Every head at 30 and beyond, above and below zero."""
    assert "restorer.out" in compare_extremes(EditTask(), made, SIZE, {"faces": pictures(5)})


@those_that_recover
@pytest.mark.parametrize("kind", ["black", "white", "usual"])
def test_a_recovered_face_is_a_picture(candidate: Candidate, made: Any, kind: str) -> None:
    with torch.no_grad():
        for parameter in made.restorer.out.parameters():
            parameter.normal_(0, 10)  # so that it wants to leave the range
    faces = {"black": torch.zeros(2, 3, SIZE, SIZE), "white": torch.ones(2, 3, SIZE, SIZE), "usual": pictures(2)}[kind]
    recovered = read(made, faces).recovered
    assert recovered is not None and recovered.min() == 0 and recovered.max() == 1


@everyone
def test_losses_are_finite_scalars(candidate: Candidate, made: Any) -> None:
    batch = batch_of()
    assert batch.keys() == set(BATCH)
    for losses in (
        losses_of(made, batch),
        losses_of(made.train(), some_of(batch, slice(2))),
        losses_of(made.train(), some_of(batch, slice(4, 5))),
    ):
        assert losses and all(loss.shape == () and loss.isfinite() for loss in losses.values())


@everyone
def test_learning_leaves_the_reader_in_its_mode(candidate: Candidate, made: Any) -> None:
    for training in (True, False):
        losses_of(made.train(training), batch_of())
        assert all(module.training == training for module in made.modules())


def assert_same_losses(reader: Any, one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    """And the same gradients."""
    losses, gradients = [], []
    for batch in (one, other):
        reader.zero_grad()
        losses.append(losses_of(reader, batch))
        total(losses[-1]).backward()
        gradients.append({n: p.grad.clone() for n, p in reader.named_parameters() if p.grad is not None})
    assert losses[0].keys() == losses[1].keys() and gradients[0].keys() == gradients[1].keys()
    assert all(loss.isfinite() and torch.equal(loss, losses[1][name]) for name, loss in losses[0].items())
    assert all(g.isfinite().all() and torch.equal(g, gradients[1][name]) for name, g in gradients[0].items())


@everyone
def test_the_value_that_marks_unknown_masks_does_not_matter(candidate: Candidate, made: Any) -> None:
    """Neither for all faces, nor for some of them; any negative number says the same."""
    batch = some_of(batch_of(), slice(1, 5))
    for unknown in (slice(None), slice(1, 3)):
        marked = []
        for value in (-1.0, -0.25):
            masks, unions = batch["masks"].clone(), batch["unions"].clone()
            masks[unknown], unions[unknown] = value, value
            marked.append({**batch, "masks": masks, "unions": unions})
        assert_same_losses(made, *marked)


@those_that_say_where
def test_unknown_masks_teach_nothing_of_areas(candidate: Candidate, made: Any) -> None:
    batch = batch_of()
    unknown = {**batch, "masks": torch.full_like(batch["masks"], -1), "unions": torch.full_like(batch["unions"], -1)}
    losses, known = losses_of(made, unknown), losses_of(made, batch)
    for name in {"mask", "union"} & losses.keys():
        made.zero_grad()
        losses[name].backward(retain_graph=True)
        assert losses[name] == 0 and known[name] > 0
        assert all(p.grad is None or (p.grad == 0).all() for p in made.parameters())
    assert "mask" in losses and ("union" in losses) == candidate.recovers


@those_that_say_where
def test_areas_are_learned_from_the_faces_whose_masks_are_known(candidate: Candidate, made: Any) -> None:
    batch = batch_of()
    masks = batch["masks"].clone()
    masks[4:] = -1
    some = losses_of(made, {**batch, "masks": masks})["mask"]
    torch.testing.assert_close(some, losses_of(made, some_of(batch, slice(4)))["mask"], rtol=1e-5, atol=1e-6)
    assert some != losses_of(made, batch)["mask"]


@those_that_recover
def test_faces_without_a_known_original_teach_nothing_of_recovery(candidate: Candidate, made: Any) -> None:
    batch = some_of(batch_of(), slice(1, 5))
    noise = torch.rand(batch["originals"].shape, generator=torch.Generator().manual_seed(8))
    alone = {**batch, "paired": torch.zeros(4)}
    assert_same_losses(made, alone, {**alone, "originals": noise})
    made.zero_grad()
    loss = losses_of(made, alone)["recovery"]
    loss.backward()
    assert loss == 0 and all(p.grad is None or (p.grad == 0).all() for p in made.parameters())


@those_that_recover
def test_the_original_of_a_paired_edited_face_matters(candidate: Candidate, made: Any) -> None:
    batch = some_of(batch_of(), slice(1, 5))
    noise = torch.rand(batch["originals"].shape, generator=torch.Generator().manual_seed(8))
    assert losses_of(made, batch)["recovery"] != losses_of(made, {**batch, "originals": noise})["recovery"]


@those_that_recover
def test_recovery_is_conditioned_in_training_as_in_use(candidate: Candidate, made: Any) -> None:
    """On the posterior of all sequences: for each step, the shares of none and of every edit, (30,)."""
    given: list[Tensor] = []
    hook = made.restorer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[4]))
    losses_of(made.eval(), batch_of())
    output = read(made, batch_of()["faces"])
    hook.remove()
    taught, used = given
    assert taught.shape == (4, 30) and used.shape == (8, 30) and not taught.requires_grad
    posterior, table = output.scores.softmax(1), all_sequences()
    for step in range(5):
        for edit in range(6):
            share = posterior[:, np.flatnonzero(table[:, step] == edit)].sum(1)
            torch.testing.assert_close(used[:, 6 * step + edit], share, rtol=1e-4, atol=1e-5)
    # A step shows recovery half of the faces, in an order of its own.
    apart = (taught[:, None] - used).abs().amax(2)
    assert (apart.amin(1) < 1e-5).all() and len(set(apart.argmin(1).tolist())) == 4


@those_that_recover
def test_an_untouched_face_is_its_own_original_whatever_stands_in_its_place(candidate: Candidate, made: Any) -> None:
    batch = some_of(batch_of(), slice(1, 5))
    batch["sequences"] = torch.zeros_like(batch["sequences"])
    noise = torch.rand(batch["originals"].shape, generator=torch.Generator().manual_seed(8))
    assert_same_losses(made, batch, {**batch, "originals": noise})
    assert losses_of(made, batch)["recovery"] > 0


in_mixed_precision = pytest.mark.parametrize("candidate", READERS[:2], ids=str)  # of which the others are parts


class NoForbiddenFunctions(TorchFunctionMode):
    """Refuses what CUDA refuses in mixed precision, whatever the dtype of its arguments."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is nn.functional.binary_cross_entropy:
            raise RuntimeError("binary_cross_entropy is unsafe to autocast")
        return func(*args, **(kwargs or {}))


@in_mixed_precision
def test_its_losses_need_nothing_that_a_gpu_refuses_in_mixed_precision(candidate: Candidate, made: Any) -> None:
    with NoForbiddenFunctions():
        losses_of(made, batch_of())


@pytest.mark.slow
@in_mixed_precision
def test_mixed_precision_hardly_changes_the_losses(candidate: Candidate, made: Any) -> None:
    batch = batch_of()
    straight = losses_of(made, batch)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = losses_of(made, batch)
    for name, loss in straight.items():
        torch.testing.assert_close(mixed[name].float(), loss, rtol=0, atol=0.01, msg=name)


@everyone
def test_it_learns_eight_faces_by_heart(candidate: Candidate) -> None:
    """Their sequences by both ways of reading; where they were edited, if it says so; and a face nearer to the original
    than the one it is shown, if it recovers faces. At half the side, for speed."""
    torch.manual_seed(0)
    reader = candidate.make()
    batch = batch_of(HALF)
    optimiser = torch.optim.AdamW(reader.parameters(), lr=1.5e-3)

    @torch.no_grad()
    def learned() -> list[bool]:
        output, greedy = reader.eval()(batch["faces"]), reader.greedy(batch["faces"])
        right = [torch.equal(output.scores.argmax(1), PLACES), torch.equal(greedy, SEQUENCES)]
        if output.areas is not None:
            cells = nn.functional.adaptive_avg_pool2d(batch["masks"], output.areas.shape[-1])
            inside, outside = output.areas[cells > 0.5], output.areas[cells == 0]
            right.append(bool((inside[:, None] > outside).float().mean() > 0.75))
        if output.recovered is not None:
            nothing, done = ((face - batch["originals"]).abs().mean() for face in (batch["faces"], output.recovered))
            right.append(bool(done < 0.8 * nothing))
        return right

    for step in range(1, candidate.steps + 1):
        loss = total(reader.train().training_losses(batch))
        assert loss.isfinite()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 2.0)
        optimiser.step()
        if step % 5 == 0 and step >= 15 and all(learned()):
            return
    assert all(learned()), learned()


# Between them they draw all that is drawn in training; the engine is the same for all.
RESUMED = ("seqfakeformer", "mmnet", "mmnet-forward")


@pytest.mark.slow
@pytest.mark.parametrize("candidate", [one for one in READERS if one.name in RESUMED], ids=str)
def test_a_resumed_run_ends_like_an_uninterrupted_one(candidate: Candidate, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    count = len(SEQUENCES)
    pixels, originals = (rng.integers(0, 256, (count, HALF, HALF, 3), np.uint8) for _ in range(2))
    faces = edited_faces(
        pixels,
        SEQUENCES.tolist(),
        originals,
        rng.integers(0, 256, (count, 5, CELLS, CELLS), np.uint8),
        states=[PER_EDIT, UNION, PER_EDIT, NOT_KNOWN] * (count // 4),
        paired=[True, True, True, False] * (count // 4),
    )
    config = EditTrainConfig(size=HALF, steps=2, batch=3, encoded=0.5)
    assert resumes_as_if_nothing_had_happened(candidate.make, EditFeed(faces, config), config, tmp_path, 2)
