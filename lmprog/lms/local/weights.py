"""The weights of a model in this process: one base model, and any number of LoRA adapters beside it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmprog.compiler.backends import backend_of
from lmprog.compiler.plan import AdapterReference, Load
from lmprog.errors import InfrastructureError, LmprogError
from lmprog.extras import needed_by
from lmprog.lms import embedded
from lmprog.lms.adapter_files import adapter_folder as adapter_folder
from lmprog.lms.adapter_files import sha256_of as sha256_of
from lmprog.lms.local.allocation import keep_few_kernels, keep_freed_memory
from lmprog.lms.local.structure import alone as structure_alone
from lmprog.lms.local.structure import structure_of
from lmprog.lms.local.writing import writing
from lmprog.lms.quiet_loading import quiet_loading

if TYPE_CHECKING:
    from lmprog.lms.local.lora import FastLora


def folder_of(model: str) -> str:
    """Return what transformers loads for a model's name: a folder, or a repository of the hub, for `embedded/...` and
    `hf/...`; any other name as it stands. Only the embedded model is downloaded, where it is not there. Raises
    LmprogError for an embedded model that lmprog does not bring, and InfrastructureError where that download fails.

    A revision is left out; `revision_of` returns it.
    """
    if model == embedded.NAME:
        return str(embedded.model_folder())
    if model.startswith("embedded/"):
        raise LmprogError(f"there is no embedded model {model!r}; the one that lmprog brings is {embedded.NAME!r}")
    if not backend_of(model).trainable:
        return model
    name = model.partition("/")[2]
    return name if revision_of(model) is None else name.rpartition("@")[0]


def revision_of(model: str) -> str | None:
    """Return the revision in the name of a model whose weights can be trained here (hf/ORGANIZATION/NAME@REVISION).
    None where it has none, where the part behind the prefix is an existing folder (seen from the working
    directory), and for other models, such as those of servers, also with an `@` in their names."""
    name = model.partition("/")[2]
    if not backend_of(model).trainable or os.path.isdir(name):
        return None
    return name.rpartition("@")[2] if "@" in name else None


def base_sha256(model: str, load: Load | None = None) -> str:
    """Return the SHA-256 (hex) over the digests of a base model's *.safetensors files, in the order of their names, and
    over how it is loaded (`load`, None: as it is); a folder without such files has the digest of none. Only the
    embedded model is downloaded, as `folder_of` does: a model of the hub that is not in the local cache raises
    LocalEntryNotFoundError of huggingface_hub, an OSError.
    """
    folder = Path(folder_of(model))
    if not os.path.isdir(folder):
        from huggingface_hub import snapshot_download

        found = snapshot_download(
            str(folder), revision=revision_of(model), allow_patterns=["*.safetensors"], local_files_only=True
        )
        folder = Path(found)
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    if load is not None:
        digest.update(load.encode())
    return digest.hexdigest()


def fast_in_bfloat16() -> bool:
    """Return whether to compute in bf16 rather than in fp32 on this machine.

    Where there is CUDA the GPU decides, else the flags of the processor; False where they cannot be read. Nothing is timed, so
    that two runs on one machine never differ in it.
    """
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


class Weights:
    """A base model in memory, its tokenizer, and the adapters that were loaded beside it. One thread at a time may use
    it.

    The base is never changed, except by `write_merged`. `version` names the weights that answer now, by adapter and
    number of training steps; what is cached for them is found by it.
    """

    def __init__(self, model: str, *, dtype: Any | None = None, load: Load | None = None) -> None:
        """Load the model of a name (`hf/...`, `embedded/...`), to compute in torch's `dtype` (None: what is fast on this
        machine); with `load` 4bit the weights of its linear layers stay in 4 bits (None: as they are). Raises
        InfrastructureError where it cannot be loaded, and MissingExtra for packages that are not installed.
        """
        keep_few_kernels()
        torch, transformers = _import_local(model)
        source, revision = folder_of(model), revision_of(model)
        of: dict[str, Any] = {"revision": revision} if revision is not None else {}
        if dtype is None:
            dtype = torch.bfloat16 if fast_in_bfloat16() else torch.float32
        from lmprog.lms.local import attention, four_bits

        how = four_bits.options(model, dtype) if load is not None else {}

        try:
            with quiet_loading():
                self.tokenizer = transformers.AutoTokenizer.from_pretrained(source, padding_side="left", **of)
                make = structure_of if structure_alone() else transformers.AutoModelForCausalLM.from_pretrained
                self.base = make(source, dtype=dtype, attn_implementation=attention.NAME, **of, **how)
        except (OSError, ValueError) as error:
            first = str(error).strip().splitlines()[0]
            raise InfrastructureError(
                f"the model {model!r} cannot be loaded: {first}; name a folder that holds a transformers model, or a "
                "hub repository that this machine can reach"
            ) from error
        if load is not None:
            four_bits.take_over(self.base)
        self.model_name, self.load = model, load
        keep_freed_memory()  # not before: what loading takes for a moment is returned
        self.base.eval()
        if torch.cuda.is_available() and not structure_alone():
            self.base.to("cuda")
        self.version: tuple[str, int] = ("", 0)
        self._peft: Any = None
        self._fast: FastLora | None = None
        """Made for the layers and adapters that `model` has now."""
        self._names: dict[str, str] = {}
        self._checked: dict[AdapterReference, str] = {}
        """Names of adapters, by reference, that were found to be what their digest says: a base of gigabytes is not read
        for each wave.
        """
        self._training: dict[AdapterReference, str] = {}
        self._steps = 0

    @property
    def model(self) -> Any:
        """The transformers model, with peft's model around it once an adapter was loaded or put in training.

        Inside `using` it computes with the adapter given there (None: as the base alone), elsewhere with the one that
        is active in peft, if any. Read it anew after adapters were loaded, or training began or ended: it may be
        another object then.
        """
        return self._peft if self._peft is not None else self.base

    @property
    def held_bytes(self) -> int:
        """The bytes of the base's weights and of the adapters that were loaded or are in training, each storage once."""
        storages = {
            each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in self.model.parameters()
        }
        return sum(storages.values())

    @property
    def end_ids(self) -> frozenset[int]:
        """Token ids that end a reply."""
        ids = self.base.generation_config.eos_token_id
        listed = ids if isinstance(ids, list) else [] if ids is None else [ids]
        return frozenset([*listed, self.tokenizer.eos_token_id])

    @contextlib.contextmanager
    def using(self, adapter: AdapterReference | None) -> Iterator[None]:
        """Return a context inside which the model computes with `adapter` (None: the base alone), which is loaded
        first; it may be an adapter in training. It must not be inside another one. Raises LmprogError where the
        adapter's files are missing or changed, or were trained on another model, and InfrastructureError where it
        cannot be downloaded.
        """
        before, training = self.version, self.model.training
        name = None if adapter is None else self._training.get(adapter) or self._load(adapter)
        self.version = (name or "", self._steps if adapter in self._training else 0)
        self.model.eval()
        try:
            with self._answering(name):
                yield
        finally:
            self.model.train(training)
            self.version = before

    @contextlib.contextmanager
    def _answering(self, name: str | None) -> Iterator[None]:
        if self._fast is None:
            from lmprog.lms.local.lora import FastLora

            self._fast = FastLora(self.model)
        if self._fast.serves(name):
            with self._fast.serving(name, self.version):
                yield
        elif name is None:
            with self._peft.disable_adapter():
                yield
        else:
            active = self._peft.active_adapter
            self._peft.set_adapter(name)
            try:
                yield
            finally:
                self._peft.set_adapter(active)
                self._let_learn()

    def begin_training(self, config: Any, start: AdapterReference | None = None) -> AdapterReference:
        """Add an adapter to train, as peft's `config` or, where `start` is not None, in the shape and with the values
        of `start`, without reading `config`; return the reference that requests name it by.

        Several may be in training at once. Initial values are drawn from torch's generator. Raises LmprogError where
        the files of `start` are missing or changed, or were trained on another model, and InfrastructureError where it
        cannot be downloaded.
        """
        import peft

        if start is not None:
            self._check(start)
            config = peft.PeftConfig.from_pretrained(str(adapter_folder(start)))
            config.inference_mode, config.lora_dropout = False, 0.0
        config = deepcopy(config)  # peft writes into it, and others may be made of it
        name = f"training-{len(self._training):03d}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # names that transformers renames; peft still uses the old
            if self._peft is None:
                self._peft = peft.get_peft_model(self.base, config, adapter_name=name)
            else:
                self._peft.add_adapter(name, config)
        self._fast = None
        reference = AdapterReference(name)
        self._training[reference] = name
        self.trained_step()  # one of the same name may have been in training before
        if start is not None and not structure_alone():
            weights = peft.load_peft_weights(str(adapter_folder(start)))
            peft.set_peft_model_state_dict(self._peft, weights, adapter_name=name)
        self._peft.set_adapter(name)
        self._let_learn()
        return reference

    def in_peft(self, trained: AdapterReference) -> tuple[Any, str]:
        """Return the peft model that holds an adapter in training, and the adapter's name in that model; KeyError for
        an adapter that is not in training.
        """
        return self._peft, self._training[trained]

    def _let_learn(self) -> None:
        """Make every adapter in training trainable.

        Peft freezes every adapter but the one last activated, and the adapters that were there before another.
        """
        if self._training:
            self._peft.set_requires_grad(list(self._training.values()))

    def trained_step(self) -> None:
        """Count a change of the adapters in training, so that nothing that is cached for their earlier values is found
        again.
        """
        self._steps += 1

    def save_trained(self, trained: AdapterReference, folder: Path) -> None:
        """Write an adapter in training into `folder`, which is made where it is missing, in peft's format. Raises
        InfrastructureError or OSError where the files cannot be written; some may then be there.
        """
        name = self._training[trained]
        with writing(folder):
            self._peft.save_pretrained(folder, selected_adapters=[name])
        # Peft gives an adapter of any name but its own default a folder within.
        for path in (folder / name).iterdir():
            path.replace(folder / path.name)
        (folder / name).rmdir()

    def end_training(self) -> None:
        """Remove the adapters in training; the base then answers as before. Nothing happens where none is in training."""
        if not self._training:
            return
        if self._names:
            self._peft.set_adapter(next(iter(self._names)))
            for name in self._training.values():
                self._peft.delete_adapter(name)
        else:
            self.base, self._peft = self._peft.unload(), None
        self._fast = None
        self._training.clear()
        self.model.eval()

    def write_merged(self, adapter: AdapterReference, folder: Path) -> None:
        """Write the model with `adapter` merged into its weights into `folder`, which is made where it is missing, in
        the number format of its files, and the tokenizer.

        It changes the base in place, so these weights must not be used afterwards; weights in fp32 are rounded once.
        Raises the errors of `using`, and InfrastructureError or OSError where the files cannot be written; some may
        then be there.
        """
        import transformers

        name = self._load(adapter)
        with quiet_loading():
            merged = self._peft.merge_and_unload(safe_merge=True, adapter_names=[name])
            revision = revision_of(self.model_name)
            of = {"revision": revision} if revision is not None else {}
            stored = transformers.AutoConfig.from_pretrained(folder_of(self.model_name), **of).dtype
            with writing(folder):
                merged.to(stored or merged.dtype).save_pretrained(folder)
                self.tokenizer.save_pretrained(folder)

    def _load(self, adapter: AdapterReference) -> str:
        import peft

        if adapter in self._checked:
            return self._checked[adapter]
        self._check(adapter)
        folder = adapter_folder(adapter)
        name = sha256_of(folder)[:16]
        if name not in self._names:
            with quiet_loading(), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # as in begin_training
                if self._peft is None:
                    self._peft = peft.PeftModel.from_pretrained(self.base, folder, adapter_name=name)
                else:
                    self._peft.load_adapter(folder, adapter_name=name)
            self._let_learn()
            self._fast = None
            self._names[name] = str(folder)
        if adapter.sha256 is not None:
            self._checked[adapter] = name
        return name

    def _check(self, adapter: AdapterReference) -> None:
        """Raise LmprogError for an adapter without a weights file, or whose digest, base model or base weights are not
        those that the reference names (None in it: any).
        """
        folder = adapter_folder(adapter)
        if not (folder / "adapter_model.safetensors").is_file():
            raise LmprogError(f"there is no adapter in {folder}: it holds no adapter_model.safetensors")
        if adapter.sha256 is not None and sha256_of(folder) != adapter.sha256:
            raise LmprogError(
                f"the adapter in {folder} is not the one that the program names: its sha256 differs; restore the folder, "
                "or run `lmprog optimize` again"
            )
        if adapter.base is not None and adapter.base != self.model_name:
            raise LmprogError(f"the adapter in {folder} was trained on {adapter.base}, not on {self.model_name}")
        if adapter.base_sha256 is not None and adapter.base_sha256 != base_sha256(self.model_name, self.load):
            other: Load | None = "4bit" if self.load is None else None
            fix = ""
            if adapter.base_sha256 == base_sha256(self.model_name, other):
                fix = f"; as where it was trained, {'write `load: 4bit`' if other else 'leave `load` out'}"
            raise LmprogError(f"the adapter in {folder} was trained on other weights of {self.model_name}{fix}")


def _import_local(model: str) -> tuple[Any, Any]:
    # TRL tells a hub of each trainer that is made; read where huggingface_hub is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    # bitsandbytes, which peft imports where it is installed, warns of a kernel on a hub that nothing here uses.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    with needed_by(f"{model!r} runs in this process, which"):
        import peft  # noqa: F401
        import torch
        import transformers
    return torch, transformers
