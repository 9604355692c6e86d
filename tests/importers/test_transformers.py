"""Tiny Hugging Face models: import with free sequence length, equal answers at other lengths."""

import sys
from pathlib import Path

import pytest
import torch

from fusec.importers.batch import find_batch, one_row
from fusec.importers.source import torch_source
from fusec.importers.torch_capture import capture
from fusec.ir.symbols import check_request
from fusec.ir.template import RowsKind, Symbol, TensorSpec
from fusec.kernels.operators import is_operator

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

transformers = pytest.importorskip("transformers")

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def no_checkout_on_path(monkeypatch):
    """Keep transformers from taking our folder `kernels` for the package of that name."""
    kept = [p for p in sys.path if p and Path(p).resolve() != CHECKOUT]
    monkeypatch.setattr(sys, "path", kept)


SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
TEXT = {**SIZES, "vocab_size": 50, "max_position_embeddings": 64}
SEQ = Symbol("sequence", 1, None)


def bert(t):
    return t.BertModel(t.BertConfig(**TEXT))


def distilbert(t):
    return t.DistilBertModel(
        t.DistilBertConfig(
            dim=16, n_layers=2, n_heads=2, hidden_dim=32, vocab_size=50, max_position_embeddings=64
        )
    )


def llama(t):
    return t.LlamaForCausalLM(t.LlamaConfig(**TEXT, num_key_value_heads=1))


def t5_encoder(t):
    return t.T5EncoderModel(
        t.T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, vocab_size=50)
    )


def gpt2(t):
    return t.GPT2LMHeadModel(
        t.GPT2Config(
            n_embd=16, n_layer=2, n_head=2, vocab_size=50, n_positions=64, bos_token_id=1,
            eos_token_id=2,
        )
    )  # fmt: skip


def vit(t):
    return t.ViTModel(t.ViTConfig(**SIZES, image_size=32, patch_size=8))


def resnet(t):
    return t.ResNetModel(
        t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
    )


def convnext(t):
    return t.ConvNextModel(t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2))


def wav2vec2(t):
    return t.Wav2Vec2Model(
        t.Wav2Vec2Config(
            **SIZES, conv_dim=(8, 8), conv_kernel=(10, 3), conv_stride=(5, 2),
            num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
        )
    )  # fmt: skip


def text(length):
    return {
        "input_ids": torch.randint(3, 50, (1, length)),
        "attention_mask": torch.ones(1, length, dtype=torch.long),
    }


def image(side):
    return {"pixel_values": torch.randn(1, 3, side, side)}


def sound(samples):
    return {"input_values": torch.randn(1, samples)}


CASES = {
    "bert": (bert, text, (8, 5, 64), 2, "last_hidden_state"),
    "distilbert": (distilbert, text, (8, 5, 64), 2, "last_hidden_state"),
    "llama": (llama, text, (8, 5, 33), 2, "logits"),
    "t5_encoder": (t5_encoder, text, (8, 5, 33), 2, "last_hidden_state"),
    "gpt2": (gpt2, text, (8, 5, 33), 2, "logits"),
    "vit": (vit, image, (32,), 0, "last_hidden_state"),
    "resnet": (resnet, image, (32,), 0, "last_hidden_state"),
    "convnext": (convnext, image, (32,), 0, "last_hidden_state"),
    "wav2vec2": (wav2vec2, sound, (800, 1234), 1, "last_hidden_state"),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_imports_and_equals_the_original(name):
    make, inputs, lengths, varying, first = CASES[name]
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    source = torch_source(make(transformers).eval(), (), inputs(lengths[0]))
    assert source.output_names[0] == first
    facts = find_batch(source, source.examples)
    assert facts.kind is RowsKind.INDEPENDENT, facts.how
    assert set(facts.input_axes) == {0}
    captured = capture(
        source.module,
        one_row(source.examples, facts.input_axes),
        dynamic={i: {1: SEQ} for i in range(varying)},
    )
    found = [n for n in captured.graph.graph.nodes if n.op == "call_function"]
    assert all(is_operator(n.target) for n in found)
    assert len(captured.symbols.symbols) == (1 if varying else 0)
    for length in lengths:
        args = list(inputs(length).values())
        if varying:
            shapes = [tuple(a.shape) for a in args]
            spec = TensorSpec("float32", (1, "s0"))
            symbols = captured.symbols
            check_request([spec] * varying, shapes, symbols.symbols, symbols.constraints)
        got = captured.graph(*args, *captured.weights.values())
        for a, b in zip(got, source.run(args), strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", ["bert", "distilbert", "gpt2", "llama", "vit"])
def test_attention_stays_whole(name):
    make, inputs, lengths, _, _ = CASES[name]
    source = torch_source(make(transformers).eval(), (), inputs(lengths[0]))
    captured = capture(source.module, source.examples)
    found = [str(n.target) for n in captured.graph.graph.nodes if n.op == "call_function"]
    assert found.count("aten.scaled_dot_product_attention.default") == 2
    if name in ("gpt2", "llama"):
        assert source.output_names == ("logits",)
        assert "cache" in source.notes[0]
