"""The torch encoder on a tiny DeBERTa-v2 with random weights: frozen, fine-tuned, saved and loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proteus_router.errors import DivergenceError, EncoderError, InsufficientDataError, SchemaError
from proteus_router.types import FloatArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from proteus_router.encoders import load_encoder, transformer_files  # noqa: E402
from proteus_router.encoders.fine_tune import Z_DIM, _masked_loss, fine_tune  # noqa: E402
from proteus_router.encoders.transformer import TransformerEncoder  # noqa: E402

SENTENCES = (
    "prove the sum of even odd number; write a python function that sorts list; what is capital france"
)
WORDS = SENTENCES.replace(";", "").split()


def make_folder(folder: Path, seed: int = 0) -> Path:
    """A DeBERTa-v2 folder as the hub has them: config, safetensors, fast tokenizer."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    vocabulary = {token: index for index, token in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]"
    )
    config = transformers.DebertaV2Config(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        relative_attention=True,
        position_buckets=16,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.DebertaV2Model(config)
    with transformer_files._quiet():
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("hub") / "tiny-deberta")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> TransformerEncoder:
    return TransformerEncoder(folder)


def texts_and_scores(n: int = 64, seed: int = 0) -> tuple[list[str], FloatArray]:
    """Model 0 is right on texts with "python", model 1 on the others; a fifth of the outcomes is missing."""
    rng = np.random.default_rng(seed)
    texts, scores = [], np.empty((n, 2))
    for row in range(n):
        code = row % 2 == 0
        words = [*rng.choice([word for word in WORDS if word != "python"], 6), *(["python"] if code else [])]
        texts.append(" ".join(rng.permutation(words)))
        scores[row] = [code, 1 - code]
    scores[rng.random((n, 2)) < 0.2] = np.nan
    return texts, scores


@pytest.fixture(scope="module")
def tuned(encoder: TransformerEncoder) -> TransformerEncoder:
    texts, scores = texts_and_scores(160)
    return fine_tune(encoder, texts, scores, seed=1, epochs=12, lr=1e-3, head_lr=3e-3)


def test_rows_come_in_order_and_do_not_depend_on_the_batch(encoder: TransformerEncoder) -> None:
    texts, _ = texts_and_scores(40)
    together = encoder.encode(texts)
    assert together.shape == (40, 32) == (40, encoder.dim)
    assert together.dtype == np.float32
    alone = np.vstack([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert encoder.encode([]).shape == (0, 32)


def test_mean_pooling_leaves_padding_out(encoder: TransformerEncoder) -> None:
    text = "prove the sum of even number"
    tokens = encoder.parts.tokenizer([text], return_tensors="pt")
    with torch.inference_mode():
        slow = encoder.parts.model(**tokens).last_hidden_state[0].numpy().mean(axis=0)
    padded = encoder.encode([text, "what is the capital of france " * 5])
    np.testing.assert_allclose(padded[0], slow, atol=1e-5)


def test_cls_pooling_is_another_encoder(folder: Path, encoder: TransformerEncoder) -> None:
    first = TransformerEncoder(folder, "cls")
    assert first.fingerprint != encoder.fingerprint
    assert not np.allclose(first.encode(["the sum"]), encoder.encode(["the sum"]))


def test_long_texts_are_cut_and_odd_ones_encoded(encoder: TransformerEncoder) -> None:
    assert encoder.parts.max_tokens == 64  # what the model has positions for
    long = "sum " * 5_000
    np.testing.assert_allclose(encoder.encode([long]), encoder.encode([long + "python"]), atol=1e-6)
    assert np.isfinite(encoder.encode(["", "\ud800", "你好"])).all()


def test_fingerprint_is_of_the_content(folder: Path, encoder: TransformerEncoder, tmp_path: Path) -> None:
    encoder.encode(["leaves padding and cutting set in the tokenizer"])
    assert TransformerEncoder(folder).fingerprint == encoder.fingerprint
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert TransformerEncoder(moved).fingerprint == encoder.fingerprint
    assert TransformerEncoder(folder, max_tokens=16).fingerprint != encoder.fingerprint
    assert TransformerEncoder(make_folder(tmp_path / "other", seed=1)).fingerprint != encoder.fingerprint


def test_load_encoder_checks_the_artifacts_fingerprint(folder: Path, encoder: TransformerEncoder) -> None:
    assert load_encoder(str(folder), expected_fingerprint=encoder.fingerprint).dim == 32
    with pytest.raises(EncoderError, match="other than the artifact's"):
        load_encoder(str(folder), expected_fingerprint="0" * 64)


def test_fine_tuning_learns_and_gives_z(encoder: TransformerEncoder, tuned: TransformerEncoder) -> None:
    texts, scores = texts_and_scores(60, seed=9)
    z = tuned.encode(texts)
    assert z.shape == (60, Z_DIM) == (60, tuned.dim)
    predicted = tuned.predict_scores(texts)
    seen = ~np.isnan(scores)
    assert (np.abs(predicted - scores)[seen] < 0.5).mean() > 0.9
    assert tuned.fingerprint != encoder.fingerprint


def test_score_layer_is_linear_and_sigmoid_on_z(tuned: TransformerEncoder) -> None:
    texts, _ = texts_and_scores(5)
    weight, bias = (getattr(tuned.parts.scorer, part).detach().numpy() for part in ("weight", "bias"))
    slow = 1 / (1 + np.exp(-(tuned.encode(texts) @ weight.T + bias)))
    np.testing.assert_allclose(tuned.predict_scores(texts), slow, atol=1e-5)


def test_fine_tuning_changes_all_layers_but_not_the_encoder_given(
    folder: Path, tuned: TransformerEncoder
) -> None:
    frozen = TransformerEncoder(folder)
    before = frozen.fingerprint
    texts, scores = texts_and_scores(16)
    out = fine_tune(frozen, texts, scores, seed=0, epochs=1)
    del frozen.__dict__["fingerprint"]
    assert frozen.fingerprint == before
    for (name, old), (_, new) in zip(
        frozen.parts.model.named_parameters(), out.parts.model.named_parameters(), strict=True
    ):
        assert not torch.equal(old, new), name


def test_same_seed_same_weights_other_seed_other(encoder: TransformerEncoder) -> None:
    texts, scores = texts_and_scores(32)
    prints = [fine_tune(encoder, texts, scores, seed=seed, epochs=1).fingerprint for seed in (3, 3, 4)]
    assert prints[0] == prints[1] != prints[2]


def test_torchs_own_random_state_is_left_alone(encoder: TransformerEncoder) -> None:
    texts, scores = texts_and_scores(16)
    before = torch.random.get_rng_state()
    fine_tune(encoder, texts, scores, seed=3, epochs=1)
    assert torch.equal(before, torch.random.get_rng_state())


def test_loss_is_the_mean_over_observed_pairs_only() -> None:
    rng = np.random.default_rng(0)
    logits, scores = rng.normal(size=(6, 3)), rng.random((6, 3))
    scores[rng.random((6, 3)) < 0.4] = np.nan
    tensor = torch.tensor(logits, requires_grad=True)
    loss = _masked_loss(torch, tensor, scores)
    slow = [
        -(y * np.log(p) + (1 - y) * np.log(1 - p))
        for y, p in zip(scores.ravel(), 1 / (1 + np.exp(-logits.ravel())), strict=True)
        if not np.isnan(y)
    ]
    assert loss.item() == pytest.approx(np.mean(slow), rel=1e-6)
    loss.backward()
    gradient = tensor.grad
    assert gradient is not None
    assert (gradient.numpy()[np.isnan(scores)] == 0).all()


def test_graded_scores_are_matched_in_the_mean(encoder: TransformerEncoder) -> None:
    texts, _ = texts_and_scores(64)
    scores = np.tile([0.2, 0.7], (64, 1))
    tuned = fine_tune(encoder, texts, scores, seed=0, epochs=3, lr=1e-4, head_lr=1e-3)
    np.testing.assert_allclose(tuned.predict_scores(texts).mean(axis=0), [0.2, 0.7], atol=0.08)


def test_save_and_load_is_the_identity(tuned: TransformerEncoder, tmp_path: Path) -> None:
    texts, _ = texts_and_scores(10)
    tuned.save(tmp_path / "tuned")
    loaded = load_encoder(str(tmp_path / "tuned"), expected_fingerprint=tuned.fingerprint)
    assert isinstance(loaded, TransformerEncoder)
    np.testing.assert_array_equal(loaded.encode(texts), tuned.encode(texts))
    np.testing.assert_array_equal(loaded.predict_scores(texts), tuned.predict_scores(texts))
    assert loaded.seen_in_fine_tuning(texts).all()
    names = {path.name for path in (tmp_path / "tuned").iterdir()}
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl", ".pth"))}
    tuned.save(tmp_path / "tuned")  # replaces it
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"], "nothing unfinished left behind"


def test_it_knows_the_texts_it_was_tuned_on(encoder: TransformerEncoder, tuned: TransformerEncoder) -> None:
    texts, _ = texts_and_scores(3)
    assert tuned.seen_in_fine_tuning([texts[0], f"  {texts[1].upper()} ", "another"]).tolist() == [
        True,
        True,
        False,
    ]
    assert not encoder.seen_in_fine_tuning(texts).any()


@pytest.mark.parametrize("file", ["model.safetensors", "proteus_head.safetensors"])
@pytest.mark.parametrize("damage", ["truncate", "edit", "delete"])
def test_a_changed_folder_is_refused(
    tuned: TransformerEncoder, tmp_path: Path, file: str, damage: str
) -> None:
    tuned.save(tmp_path / "tuned")
    path = tmp_path / "tuned" / file
    content = path.read_bytes()
    if damage == "delete":
        path.unlink()
    elif damage == "truncate":
        path.write_bytes(content[:-64])
    else:
        middle = len(content) // 2
        path.write_bytes(
            content[:middle]
            + bytes(byte ^ 1 for byte in content[middle : middle + 4])
            + content[middle + 4 :]
        )
    with pytest.raises(EncoderError, match="tuned"):
        TransformerEncoder(tmp_path / "tuned")


def test_a_newer_folder_is_refused(tuned: TransformerEncoder, tmp_path: Path) -> None:
    tuned.save(tmp_path / "tuned")
    path = tmp_path / "tuned" / "proteus_encoder.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(EncoderError, match="newer release"):
        TransformerEncoder(tmp_path / "tuned")


def test_save_does_not_overwrite_something_else(encoder: TransformerEncoder, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(EncoderError, match="holds no encoder"):
        encoder.save(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_pickled_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    copied = tmp_path / "pickled"
    shutil.copytree(folder, copied)
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    with pytest.raises(EncoderError, match=r"model\.safetensors"):
        TransformerEncoder(copied)


def test_incomplete_weights_are_refused(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copied = tmp_path / "incomplete"
    shutil.copytree(folder, copied)
    weights = load_file(copied / "model.safetensors")
    del weights["encoder.layer.1.output.dense.weight"]
    save_file(weights, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"lack encoder\.layer\.1\.output\.dense\.weight"):
        TransformerEncoder(copied)


def test_an_empty_folder_says_what_it_must_hold(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"must hold config\.json"):
        TransformerEncoder(tmp_path)


def test_a_hub_name_that_is_not_here_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROTEUS_CACHE", str(tmp_path))
    with pytest.raises(
        EncoderError, match=r"not on this machine.*proteus encoder build nobody/no-such-model"
    ):
        load_encoder("nobody/no-such-model")


def test_fetched_models_are_kept_and_found_by_name(
    folder: Path, encoder: TransformerEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = transformer_files._from_pretrained

    def hub(name: str, pooling: Any, max_tokens: int, *, download: bool) -> Any:
        return real(str(folder) if download else name, pooling, max_tokens, download=False)

    monkeypatch.setattr(transformer_files, "_from_pretrained", hub)
    transformer_files.fetch_transformer("owner/tiny", cache_dir=tmp_path)
    loaded = load_encoder("owner/tiny", cache_dir=tmp_path)
    assert (loaded.name, loaded.fingerprint) == ("owner/tiny", encoder.fingerprint)


def test_only_a_fine_tuned_encoder_predicts_scores(encoder: TransformerEncoder) -> None:
    with pytest.raises(EncoderError, match="not fine-tuned"):
        encoder.predict_scores(["the sum"])


@pytest.mark.parametrize(
    ("scores", "error"),
    [
        (np.zeros((3, 2)), SchemaError),
        (np.zeros(4), SchemaError),
        (np.full((4, 2), 1.5), SchemaError),
        (np.column_stack([np.ones(4), np.full(4, np.nan)]), InsufficientDataError),
    ],
)
def test_bad_scores_are_refused(
    encoder: TransformerEncoder, scores: FloatArray, error: type[Exception]
) -> None:
    with pytest.raises(error):
        fine_tune(encoder, ["a", "b", "c", "d"], scores, seed=0)


def test_divergence_is_an_error(encoder: TransformerEncoder) -> None:
    texts, scores = texts_and_scores(32)
    with pytest.raises(DivergenceError, match="Lower lr"):
        fine_tune(encoder, texts, scores, seed=0, epochs=50, lr=1e30, head_lr=1e30)


def test_a_tuned_transformer_is_a_router_of_the_benchmark(folder: Path) -> None:
    from proteus_router.baselines.context import Context
    from proteus_router.baselines.encoders import FineTuned
    from proteus_router.data.outcomes import OutcomeTable

    texts, scores = texts_and_scores()
    table = OutcomeTable(
        query_ids=tuple(f"q{row}" for row in range(len(texts))),
        queries=tuple(texts),
        models=tuple(f"model {column}" for column in range(scores.shape[1])),
        scores=scores,
        costs_usd=np.where(np.isnan(scores), np.nan, 1.0),
    )
    context = Context.of(table, seed=0, groups=np.arange(len(texts)), n_folds=2)
    fitted = FineTuned(str(folder), epochs=1)(context)
    assert fitted.out_of_fold.scores.shape == scores.shape
    assert np.isfinite(fitted.out_of_fold.scores).all()
    first = fitted.predict(texts[:3])
    assert np.array_equal(first.scores, fitted.predict(texts[:3]).scores)
    with pytest.raises(EncoderError):
        FineTuned("nobody/has-this-model")(context)
