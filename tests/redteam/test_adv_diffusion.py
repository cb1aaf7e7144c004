"""Adv-Diffusion: whom it asks, where it pulls, what it leaves alone; and the generators that it paints with."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_painter import SmallGenerator, frame, painter, sibling
from small_victims import BlackBox, classified, recognised

from unmask.errors import DataError, PackError
from unmask.redteam.attacks.adv_diffusion import AdvDiffusion, Inpainting, Painter
from unmask.redteam.attacks.contract import Budget, Problem, strength
from unmask.redteam.campaign import Goal, Plan, run
from unmask.redteam.generators import load_generator, make_painter
from unmask.redteam.report import write_report
from unmask.redteam.setup import Painting
from unmask.redteam.stable_diffusion import StableDiffusion
from unmask.redteam.summary import summarise
from unmask.redteam.victims import Inputs, Victim, pixels

pytestmark = pytest.mark.lab


def problem_of(victim: Victim, inputs: Inputs, seed: int = 0) -> Problem:
    generators = [torch.Generator().manual_seed(seed + row) for row in range(len(inputs))]
    return Problem(pixels(inputs.pictures), inputs, victim, generators)


@pytest.mark.parametrize("goal", ["impersonate", "dodge"])
def test_the_pull_is_the_slope_of_the_surrogates_cosine(goal: str) -> None:
    victim, inputs = recognised(goal)
    surrogates = [sibling(victim), sibling(sibling(victim))]
    attack = AdvDiffusion(painter(), surrogates)
    latents = SmallGenerator().encode(pixels(inputs.pictures))
    pull = attack.guide(problem_of(victim, inputs), 7.0)(latents)

    def score(at: torch.Tensor) -> torch.Tensor:
        shown = SmallGenerator().decode(at).clamp(0, 1)
        rows = torch.arange(len(at))
        cosines = [one.cosines(one.bind(inputs)(shown, rows)) for one in surrogates]  # type: ignore[attr-defined]
        return (1 if goal == "impersonate" else -1) * torch.stack(cosines).mean(0)

    rng = np.random.default_rng(0)
    for _ in range(6):
        place = (slice(None), *(int(rng.integers(size)) for size in latents.shape[1:]))
        step = torch.zeros_like(latents)
        step[place] = 0.02
        slope = (score(latents + step) - score(latents - step)) / 0.04
        torch.testing.assert_close(pull[place] / 7.0, slope, atol=2e-4, rtol=0.03)


@pytest.mark.parametrize("composited", [False, True])
def test_no_guidance_is_plain_inpainting(composited: bool) -> None:
    victim, inputs = classified(2)
    guided = AdvDiffusion(painter(), [sibling(victim)], composited=composited)
    plain = Inpainting(painter(), composited=composited)
    budget = Budget(0.0, steps=6)
    pictures = [attack.perturb(problem_of(victim, inputs), budget) for attack in (guided, plain)]
    assert torch.equal(pictures[0], pictures[1])
    kept = torch.from_numpy(~frame(np.zeros((24, 24, 3))))
    alike = torch.isclose(pictures[1], pixels(inputs.pictures), atol=1e-6).all(1)
    assert bool(alike[:, kept].all()) == composited and not alike[:, ~kept].all()


def test_strength_fades_with_the_noise_or_stays() -> None:
    victim, inputs = classified(2)
    budget = Budget(0.5, steps=10)
    distances = [
        (
            AdvDiffusion(painter(), [sibling(victim)], adaptive).perturb(problem_of(victim, inputs), budget)
            - Inpainting(painter()).perturb(problem_of(victim, inputs), budget)
        ).norm()
        for adaptive in (True, False)
    ]
    assert 0 < distances[0] < distances[1]


def test_the_attacked_model_is_not_asked_unless_it_may_be() -> None:
    victim, inputs = classified(2)
    other = sibling(victim)
    held_out = AdvDiffusion(painter(), [victim, other, BlackBox(other)])
    assert held_out.surrogates_of(victim) == [other] and not held_out.gradients
    assert held_out.run(victim, inputs, Budget(1.0, steps=4)).queries.sum() == 0
    white = AdvDiffusion(painter(), [victim], white_box=True)
    assert white.surrogates_of(victim) == [victim] and white.gradients
    assert (white.run(victim, inputs, Budget(1.0, steps=4)).queries == 4).all()
    with pytest.raises(DataError, match="name some with --victim, or take --white-box"):
        AdvDiffusion(painter(), [victim]).run(victim, inputs, Budget(1.0, steps=4))
    with pytest.raises(DataError, match="needs gradients"):
        white.run(BlackBox(victim), inputs, Budget(1.0))
    with pytest.raises(DataError, match="paints with a generator, and none is named"):
        AdvDiffusion(surrogates=[other]).run(victim, inputs, Budget(1.0))
    with pytest.raises(DataError, match="give a number above 0"):
        held_out.run(victim, inputs, Budget(-1.0))


def test_masks_are_made_once_for_a_picture() -> None:
    asked: list[int] = []

    def counted(shown: np.ndarray) -> np.ndarray:
        asked.append(len(shown))
        return frame(shown)

    victim, inputs = classified(2, count=3)
    attack = Inpainting(Painter(SmallGenerator(), counted))
    for seed in (0, 1):
        attack.run(victim, inputs, Budget(1.0, steps=2), seed)
    assert len(asked) == 3


def test_a_campaign_counts_it(tmp_path: Path) -> None:
    victim, inputs = recognised("impersonate")
    victims: dict[str, Victim] = {"mine": victim, "other": sibling(victim), "third": sibling(sibling(victim))}
    count = len(inputs)
    goal = Goal("impersonate", tuple(f"{n}.png" for n in range(count)), tuple(f"p{n}" for n in range(count)), inputs)
    prepared = {
        "adv-diffusion": AdvDiffusion(painter(), list(victims.values())),
        "inpainting": Inpainting(painter()),
    }
    plan = Plan(
        *("recogniser", "mine", victims, (goal,), ("mi-fgsm", *prepared), (8.0,), (0.05,), 4, 10, "adv-diffusion"),
        facts={"thresholds": {}, "skipped": []},
        guidance=(5.0, 20.0),
        prepared=prepared,
    )
    records = run(plan, tmp_path / "out")
    # Clean, one strength of mi-fgsm, two of adv-diffusion, inpainting, and the largest on both other victims.
    assert len(records) == count * (1 + 1 + 2 + 1 + 2)
    assert {(r["norm"], r["epsilon"]) for r in records if r["attack"] == "adv-diffusion"} == {
        ("guidance", 5.0),
        ("guidance", 20.0),
    }
    assert all(r["queries"] == 0 for r in records if r["attack"] in prepared)
    assert run(plan, tmp_path / "out") == records
    with pytest.raises(DataError, match="other settings"):
        run(replace(plan, guidance=(5.0,)), tmp_path / "out")
    summary = summarise(plan, records, tmp_path / "out")
    curves = {curve["attack"]: curve for curve in summary["curves"]}
    assert [point["epsilon"] for point in curves["adv-diffusion"]["points"]] == [5.0, 20.0]
    assert len(curves["inpainting"]["points"]) == 1 and not summary["queries"]
    assert [point["epsilon"] for point in curves["worst of all"]["points"]] == [8 / 255]
    assert {row["source"] for row in summary["transfer"]["rows"]} == set(victims)
    assert all(0 <= row[name] <= 1 for row in summary["stealth"] for name in ("face", "forged"))
    write_report(summary, tmp_path / "out")
    page = (tmp_path / "out" / "report.html").read_text()
    assert "guidance 20" in page and "The diagonal is held out" in page
    assert json.loads((tmp_path / "out" / "report.json").read_text())["settings"]["guidance"] == [5.0, 20.0]


def test_it_is_refused_before_the_campaign_begins(tmp_path: Path) -> None:
    victim, inputs = recognised("impersonate")
    goal = Goal("impersonate", ("a", "b", "c"), ("a", "b", "c"), inputs)
    attacks = {"adv-diffusion": AdvDiffusion(painter(), [victim])}
    plan = Plan(
        *("recogniser", "mine", {"mine": victim}, (goal,), ("adv-diffusion",), (8.0,), (0.05,)), prepared=attacks
    )
    for wrong, why in ((plan, "name some with --victim"), (replace(plan, prepared={}), "none is named")):
        with pytest.raises(DataError, match=why):
            run(wrong, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_strengths_for_people() -> None:
    shown = [
        strength(norm, value) for norm, value in (("linf", 8 / 255), ("l0", 0.05), ("guidance", 150.0), ("none", 1))
    ]
    assert shown == ["8/255", "5%", "guidance 150", "–"]


def test_what_paints_is_looked_for_before_anything_is_attacked(tmp_path: Path) -> None:
    victims: dict[str, Victim] = {"a": classified(2)[0], "b": BlackBox(classified(2)[0])}
    for painting, why in (
        (Painting(), "face_parser.* is not in"),
        (Painting(surrogates=("c",)), "no victim of this campaign"),
        (Painting(surrogates=("b",)), "has no gradients"),
    ):
        with pytest.raises(DataError, match=why):
            painting.attacks(victims)
    with pytest.raises(PackError, match="no model pack"):
        load_generator(str(tmp_path))
    with pytest.raises(PackError, match="is for forgery_detection"):
        load_generator("plain")
    with pytest.raises(DataError, match="from this machine only"):
        load_generator("https://example.org/sd2")


@pytest.mark.data
def test_the_parser_says_what_the_face_is(data_dir: Path, portrait: Path) -> None:
    """A photographed face is kept, the corners are painted."""
    import cv2

    picture = cv2.imread(str(portrait))
    assert picture is not None
    mask = make_painter_mask(data_dir)(np.ascontiguousarray(picture[..., ::-1]))
    high, wide = mask.shape
    assert mask[:5].mean() > 0.9 and 0.02 < (~mask).mean() < 0.7 and mask.shape == (high, wide)


def make_painter_mask(data_dir: Path):  # type: ignore[no-untyped-def]
    """The mask maker of a painter whose generator needs no file."""
    import unmask.redteam.generators as module

    original = module.load_generator
    module.load_generator = lambda *_: SmallGenerator()  # type: ignore[assignment,return-value]
    try:
        return make_painter("small", None, data_dir / "weights").surroundings
    finally:
        module.load_generator = original


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest pipeline of Stable Diffusion 2 inpainting's classes, with random weights, as diffusers saves it."""
    diffusers, transformers = pytest.importorskip("diffusers"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("sd") / "tiny"
    blocks = {"norm_num_groups": 4, "block_out_channels": (8, 16)}
    unet = diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=9,
        out_channels=4,
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **blocks,
    )
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        **blocks,
    )
    text = transformers.CLIPTextModel(
        transformers.CLIPTextConfig(
            vocab_size=4,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=8,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    vocabulary = tmp_path_factory.mktemp("words")
    (vocabulary / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2, "b</w>": 3}')
    (vocabulary / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = transformers.CLIPTokenizer(str(vocabulary / "vocab.json"), str(vocabulary / "merges.txt"))
    tokenizer.model_max_length = 8
    scheduler = diffusers.DDIMScheduler(
        *(1000, 0.00085, 0.012, "scaled_linear"), clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    pipeline = diffusers.StableDiffusionInpaintPipeline(
        vae, text, tokenizer, unet, scheduler, None, None, requires_safety_checker=False
    )
    pipeline.save_pretrained(str(folder))
    return folder


@pytest.mark.slow
def test_stable_diffusion_from_a_folder(stable_diffusion: Path, tmp_path: Path) -> None:
    generator = load_generator(str(stable_diffusion))
    assert isinstance(generator, StableDiffusion) and generator.side == 16
    pictures = torch.rand(2, 3, 16, 16)
    masks = torch.zeros(2, 1, 16, 16)
    masks[..., :8] = 1
    latents = generator.encode(pictures)
    assert latents.shape == (2, 4, 8, 8)
    small, masked = generator.condition(pictures, latents, masks)
    assert small.shape == (2, 1, 8, 8) and torch.equal(small[..., :4], torch.ones(2, 1, 8, 4))
    assert torch.equal(masked, generator.encode(torch.where(masks > 0, 0.5, pictures)))
    noise = generator.eps(latents, 500, small, masked)
    assert noise.shape == latents.shape and not noise.requires_grad
    alone = generator.eps(latents[1:], 500, small[1:], masked[1:])
    torch.testing.assert_close(alone, noise[1:], atol=1e-5, rtol=1e-4)
    leaf = latents.clone().requires_grad_()
    generator.decode(leaf).sum().backward()
    assert leaf.grad is not None and leaf.grad.abs().sum() > 0
    victim, inputs = classified(2)
    result = AdvDiffusion(Painter(generator, frame), [sibling(victim)]).run(victim, inputs, Budget(5.0, steps=3))
    assert result.pictures.shape == inputs.pictures.shape and (result.l2 > 0).all()
    index = json.loads((stable_diffusion / "model_index.json").read_text())
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(DataError, match="not a pipeline that diffusers can read"):
        load_generator(str(tmp_path / "torn"))
