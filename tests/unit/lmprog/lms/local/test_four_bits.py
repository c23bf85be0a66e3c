"""Weights in 4 bits compute as a model whose weights are the values that they stand for: forward, adapters and gradients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'local'")
peft = pytest.importorskip("peft", reason="needs the extra 'local'")
pytest.importorskip("bitsandbytes", reason="needs the extra '4bit'")

from lmprog.compiler.plan import AdapterReference  # noqa: E402
from lmprog.errors import LmprogError  # noqa: E402
from lmprog.lms.local.four_bits import FourBitLinear  # noqa: E402
from lmprog.lms.local.weights import Weights, base_sha256  # noqa: E402

pytestmark = pytest.mark.slow

IDS = [5, 9, 33, 2, 60, 11, 7]
FORMATS = {"fp32": (torch.float32, 1e-5), "bf16": (torch.bfloat16, 0.02)}
"""Number formats, and how far results may be apart, relative to the norm: products are summed in other orders."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama of random weights."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("small")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_bias=True,
        initializer_range=0.1,
        eos_token_id=1,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if name.endswith("bias"):
                value.normal_()
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({str(n): n for n in range(64)}, unk_token="0"))
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="1").save_pretrained(folder)
    return folder


@pytest.fixture(params=FORMATS)
def pair(request, folder: Path, tmp_path: Path) -> tuple[Weights, Weights, float]:
    """The model in 4 bits, a plain one with the values that these stand for, and how far their results may be apart."""
    dtype, apart = FORMATS[request.param]
    packed, plain = (Weights(f"hf/{folder}", dtype=dtype, load=load) for load in ("4bit", None))
    layers = dict(packed.base.named_modules())
    with torch.no_grad():
        for name, layer in plain.base.named_modules():
            if isinstance(layers[name], FourBitLinear):
                assert type(layer) is torch.nn.Linear
                layer.weight.copy_(layers[name].values())
    return packed, plain, apart


def logits(weights: Weights, adapter: AdapterReference | None = None) -> Any:
    with torch.no_grad(), weights.using(adapter):
        return weights.model(input_ids=torch.tensor([IDS])).logits.float()


def close(found: Any, wanted: Any, apart: float) -> bool:
    return bool((found - wanted).norm() <= apart * wanted.norm())


def lora() -> Any:
    return peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")


def in_training(weights: Weights) -> AdapterReference:
    """An adapter in training that is not zero, the same for equal layers."""
    torch.manual_seed(3)
    reference = weights.begin_training(lora())
    draw = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for name, value in sorted(weights.model.named_parameters()):
            if "lora_" in name:
                value.copy_(0.1 * torch.randn(value.shape, generator=draw))
    weights.trained_step()
    return reference


def test_the_values_are_the_nearest_of_sixteen(folder: Path) -> None:
    from safetensors.torch import load_file

    packed = Weights(f"hf/{folder}", dtype=torch.float32, load="4bit")
    layers = {name: part for name, part in packed.base.named_modules() if isinstance(part, FourBitLinear)}
    # All linear layers of the decoder layers, and not the head.
    assert len(layers) == 14 and type(packed.base.lm_head) is torch.nn.Linear
    files = load_file(folder / "model.safetensors")
    for name, layer in layers.items():
        before, values = files[f"{name}.weight"].reshape(-1, 64), layer.values().reshape(-1, 64)
        scale = before.abs().amax(1, keepdim=True)
        assert all(len(block.unique()) <= 16 for block in values)
        # The levels of NF4 are 0.277 of the scale apart at most; the scale itself is rounded to 8 bits.
        assert ((before - values).abs() <= (0.277 / 2 + 0.02) * scale).all()
        assert layer.weight.nbytes * 8 == values.numel() * 4


def test_passes_and_adapters_compute_as_with_the_values(pair, tmp_path: Path) -> None:
    packed, plain, apart = pair
    assert close(logits(packed), logits(plain), apart)
    assert packed.held_bytes < plain.held_bytes
    references = in_training(packed), in_training(plain)
    found, wanted = (logits(each, of) for each, of in zip((packed, plain), references, strict=True))
    assert close(found, wanted, apart) and not close(found, logits(packed), 0.1)
    packed.save_trained(references[0], tmp_path / "adapter")
    packed.end_training()
    assert torch.equal(logits(packed, AdapterReference(tmp_path / "adapter")), found)


@pytest.mark.parametrize("recomputed", [False, True])
def test_gradients_are_those_through_the_values(pair, recomputed: bool) -> None:
    """Through the engine's layers, and through peft's where activations are computed again."""
    from lmprog.optimizers.grpo.torch.trained import TrainedAdapters

    packed, plain, apart = pair
    gradients = []
    for weights in (packed, plain):
        trained = TrainedAdapters([weights.in_peft(in_training(weights))], checkpoints=recomputed)
        trained.train()
        out = trained(0, input_ids=torch.tensor([IDS])).logits.float().log_softmax(-1)
        out[0, range(len(IDS) - 1), IDS[1:]].sum().backward()
        gradients.append({name: value.grad for name, value in trained.trained_weights()})
    found, wanted = gradients
    # Two matrices of each of seven layers in two: none is left without a gradient.
    assert len(wanted) == 28 and found.keys() == wanted.keys()
    assert all(value is not None and value.norm() > 0 for value in wanted.values())
    for name, value in wanted.items():
        assert close(found[name], value, 2 * apart), name


def test_an_adapter_is_refused_on_weights_that_are_loaded_otherwise(folder: Path, tmp_path: Path) -> None:
    model = f"hf/{folder}"
    assert base_sha256(model) != base_sha256(model, "4bit")
    packed = Weights(model, dtype=torch.float32, load="4bit")
    packed.save_trained(in_training(packed), tmp_path / "adapter")
    plain = Weights(model, dtype=torch.float32)
    for weights, load, fix in ((plain, "4bit", "write `load: 4bit`"), (packed, None, "leave `load` out")):
        trained_on = AdapterReference(tmp_path / "adapter", base=model, base_sha256=base_sha256(model, load))
        with pytest.raises(LmprogError, match=f"was trained on other weights of {model}; .*{fix}"):
            logits(weights, trained_on)
        assert logits(packed if load else plain, trained_on) is not None
