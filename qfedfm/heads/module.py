"""Any `torch.nn.Module` over the client axis: as a head, or as the part before or after a circuit.

A model is a pure function of stacked parameters, so the module serves as a form: `torch.func.functional_call` puts one
client's parameters into it and `torch.func.vmap` does so for all clients at once. That leaves out what a module may do
beside mapping each row by its parameters, and `bind` refuses it: statistics kept over rows or batches (batch
normalisation), dropout and other chance, and rows that look at one another, which the rows that fill up a short batch
would change. Buffers that stay as they are made are constants.
"""

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator
from torch import Tensor, nn
from torch.func import functional_call, vmap

from ..declaration import declared
from ..errors import ConfigurationError
from ..params import Params, ParamSpec, Part, Specs
from ..seeds import stream
from .model import Model, activations_bytes, apply_dense, dense

Plain = bool | int | float | str


@dataclass(frozen=True)
class Layer:
    """A trainable part of a head: rows (C, R, n_in) -> (C, R, n_out).

    specs, bounds: as in `Model`. apply: (params, rows) -> rows; it takes its own of the params. row_bytes: memory that
    training needs for what becomes of one row. start: seed -> the initial values, where they are not drawn from bounds.
    """

    specs: Specs
    bounds: tuple[float, ...]
    apply: Callable[[Params, Tensor], Tensor]
    row_bytes: int
    start: Callable[[int], Params] | None = None


def _reference(factory: Any) -> Any:
    """Return "module:name" for a class or function that this leads back to."""
    if isinstance(factory, str):
        if all(factory.partition(":")):
            return factory
        raise ValueError(f"expected a class, a function, or its name as 'module:name'; got {factory!r}")
    module, name = getattr(factory, "__module__", None), getattr(factory, "__qualname__", None)
    if isinstance(factory, nn.Module) or not callable(factory) or not module or not name:
        raise ValueError(
            f"expected a class or function that makes the module from (n_in, n_out), not a module; got {factory!r:.80}"
        )
    if module == "__main__" or "<" in name:
        raise ValueError(
            f"{name} is defined in a notebook, a script or a function, where a saved run could not find it again: move "
            "it to the top level of a file of its own, such as nets.py, and import it from there"
        )
    return f"{module}:{name}"


@declared
class Module:
    """The module that `factory(n_in, n_out, **arguments)` makes.

    factory: an `nn.Module` class such as `torch.nn.Linear`, or a function that returns a module; or its name,
    "module:name", as which it is saved. It maps rows (R, n_in) to (R, n_out), with parameters and buffers in float32.
    arguments: further arguments by name: booleans, numbers, texts, or tuples of them.

    Initial parameters are those that the factory gives under torch's generator, seeded from the experiment's stream.
    Training and evaluation both run the module in training mode; what would differ between the two is refused.
    """

    factory: Annotated[Any, BeforeValidator(_reference)]
    arguments: dict[str, Plain | tuple[Plain, ...]] | None = None

    def bind(self, n_features: int, n_outputs: int) -> Model:
        """Return the module as a head of its own, its parameters under "core.".

        Raises `ConfigurationError` for what cannot be made, trained, or run for many clients at once.
        """
        layer = self.layer("core", n_features, n_outputs, "core")
        if not any(spec.trainable for spec in layer.specs):
            raise ConfigurationError(f"{self._name}: the module has no trainable parameter, so it cannot be a head")
        row_bytes = layer.row_bytes + activations_bytes((n_features,))
        return Model(layer.specs, layer.apply, layer.bounds, row_bytes, start=layer.start)

    def layer(self, prefix: str, n_in: int, n_out: int, part: Part) -> Layer:
        """Return the module as a part of a head, its parameters under "prefix."; errors are those of `bind`."""
        form = self.make(0, prefix, n_in, n_out)
        widths = self._probe(form, n_in, n_out)
        names = [name for name, _ in form.named_parameters()]
        specs = tuple(
            ParamSpec(f"{prefix}.{name}", tuple(tensor.shape), part=part, trainable=tensor.requires_grad)
            for name, tensor in form.named_parameters()
        )
        forms = threading.local()  # functional_call changes the form while it runs, and chunks are trained in threads

        def apply(params: Params, rows: Tensor) -> Tensor:
            if not hasattr(forms, "own"):
                forms.own = copy.deepcopy(form)
            return _over_clients(forms.own, {name: params[f"{prefix}.{name}"] for name in names}, rows)

        def start(seed: int) -> Params:
            made = self.make(seed, prefix, n_in, n_out)
            return {f"{prefix}.{name}": tensor.detach() for name, tensor in made.named_parameters()}

        return Layer(specs, (0.0,) * len(specs), apply, activations_bytes(widths), start)

    def make(self, seed: int, prefix: str, n_in: int, n_out: int) -> nn.Module:
        """Return a new module as its factory initialises it; torch's global generator is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(stream(seed, "init", prefix).integers(2**63)))
            try:
                made = self._found()(n_in, n_out, **(self.arguments or {}))
            except Exception as error:
                raise ConfigurationError(
                    f"{self._name}: making it for {n_in} inputs and {n_out} outputs failed: {error}"
                ) from error
        if not isinstance(made, nn.Module):
            raise ConfigurationError(f"{self._name}: expected a torch.nn.Module from it; got {type(made).__name__}")
        return made.train()

    @property
    def _name(self) -> str:
        return f"Module '{self.factory}'"

    def _found(self) -> Callable[..., Any]:
        module, _, name = self.factory.partition(":")
        try:
            found: Any = import_module(module)
            for step in name.split("."):
                found = getattr(found, step)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigurationError(f"{self._name} cannot be imported: {error}") from None
        if not callable(found):
            raise ConfigurationError(f"{self._name}: expected a class or function; got {found!r:.80}")
        return found  # type: ignore[no-any-return]

    def _probe(self, form: nn.Module, n_in: int, n_out: int) -> list[int]:
        """Return the widths of what a row becomes on its way, for an estimate of memory; raise for what is refused."""
        wrong = [reason for name, inner in form.named_modules() if (reason := _refused(name, inner))]
        for name, tensor in form.named_parameters():
            if isinstance(tensor, nn.parameter.UninitializedParameter):
                wrong.append(f"parameter '{name}' has no shape before its first use: give the number of inputs")
            elif tensor.dtype != torch.float32:
                wrong.append(
                    f"parameter '{name}' is {tensor.dtype}: make it float32; the experiment sets the precision"
                )
        if wrong:
            raise ConfigurationError([f"{self._name}: {reason}" for reason in wrong])
        rows = torch.randn(4, n_in, generator=torch.Generator().manual_seed(0))
        buffers = {name: tensor.clone() for name, tensor in form.named_buffers()}
        widths: list[int] = []
        hooks = [inner.register_forward_hook(_record(widths)) for inner in form.modules()]
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            try:
                alone: Any = form(rows)
                for hook in hooks:
                    hook.remove()
                fewer = form(rows[:2])
                stacked = {name: torch.stack([tensor, tensor]) for name, tensor in form.named_parameters()}
                together = _over_clients(form, stacked, torch.stack([rows, rows]))
            except Exception as error:
                reason = str(error).strip().partition("\n")[0]
                raise ConfigurationError(
                    f"{self._name} cannot be run for many clients at once (chance, changes in place, and branches on "
                    f"values cannot): {reason}"
                ) from error
        if not isinstance(alone, Tensor) or alone.shape != (4, n_out):
            got = tuple(alone.shape) if isinstance(alone, Tensor) else type(alone).__name__
            raise ConfigurationError(f"{self._name}: maps rows (4, {n_in}) to {got}; expected (4, {n_out})")
        if any(not torch.equal(tensor, buffers[name]) for name, tensor in form.named_buffers()):
            raise ConfigurationError(f"{self._name}: a forward pass changes its buffers; only constants can be kept")
        if not torch.allclose(fewer, alone[:2], rtol=1e-4, atol=1e-5, equal_nan=True):
            raise ConfigurationError(
                f"{self._name}: what it makes of a row depends on the other rows of the batch; each must stand alone"
            )
        if not torch.allclose(together, alone, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise ConfigurationError(f"{self._name}: clients with equal parameters get different values from it")
        return widths


def layer(module: Module | None, name: str, n_in: int, n_out: int, part: Part) -> Layer:
    """Return a part of a head: the module's, or one linear layer if there is none."""
    if module is not None:
        return module.layer(name, n_in, n_out, part)
    specs, bounds = dense(name, n_in, n_out, part)
    return Layer(specs, bounds, lambda params, rows: apply_dense(params, name, rows), activations_bytes((n_out,)))


def starts(*layers: Layer) -> Callable[[int], Params]:
    """Return what gives the initial values of all layers that do not draw theirs."""
    own = [each.start for each in layers if each.start]
    return lambda seed: {name: values for start in own for name, values in start(seed).items()}


def _over_clients(form: nn.Module, params: Params, rows: Tensor) -> Tensor:
    """Return what each client's parameters make of its rows: {name: (C, *)} and (C, R, n_in) to (C, R, n_out)."""
    constants = {
        name: tensor.to(rows) if tensor.is_floating_point() else tensor.to(rows.device)
        for name, tensor in form.named_buffers()
    }

    def one(own: Params, features: Tensor) -> Tensor:
        return functional_call(form, (own, constants), (features,))  # type: ignore[no-any-return]

    if not params:
        return vmap(one, in_dims=(None, 0))(params, rows)
    return vmap(one)(params, rows)


def _refused(name: str, inner: nn.Module) -> str:
    """Return why a module inside cannot be used, or an empty text."""
    where = f"{type(inner).__name__}{f' ({name})' if name else ''}"
    if isinstance(inner, nn.modules.batchnorm._NormBase):
        return f"{where} keeps statistics of the rows it sees, which no parameter is: use LayerNorm or GroupNorm"
    if isinstance(inner, nn.modules.dropout._DropoutNd) and inner.p > 0:
        return f"{where} draws at random, and a model is a function of parameters and rows: leave it out, or set p=0"
    return ""


def _record(widths: list[int]) -> Callable[[nn.Module, Any, Any], None]:
    def hook(inner: nn.Module, _: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not any(True for _ in inner.children()):
            widths.append(output[0].numel() if output.dim() else 1)

    return hook
