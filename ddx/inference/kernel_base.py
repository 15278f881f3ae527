"""What compiled code is made of: functions, and eight doubles as one value.

Such a value is a register of current processors, or several of smaller ones. Loops over lanes are short and touch one array in
several places, so that the compiler cannot tell that these do not overlap, and tests it before every loop: loads and stores of
eight lanes say what is meant. Their sums and products round as those of single doubles.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.typing import templates as _templates
from numba.extending import intrinsic, lower_builtin, models, register_model

from ddx.inference.network import Floats

Function = TypeVar("Function", bound=Callable[..., Any])
WIDTH = 8
U = np.uint64
STEP = U(WIDTH)
# numba says nothing of the types of these.
templates: Any = _templates
vector_operator: Any = lower_builtin
_REGISTER = ir.VectorType(ir.DoubleType(), WIDTH)


def compile_function(function: Function, **names: object) -> Function:
    """Machine code at the first call, kept on disk where that can be; without the interpreter's lock.

    ``names`` replace what it calls.
    """
    function = renamed(function, **names) if names else function
    try:
        return cast(Function, njit(cache=True, nogil=True, error_model="numpy")(function))
    except RuntimeError:  # no folder that numba can write to
        return cast(Function, njit(nogil=True, error_model="numpy")(function))


def renamed(function: Function, **names: object) -> Function:
    """The same function calling others by the names of its own module."""
    return cast(Function, FunctionType(cast(Any, function).__code__, {**cast(Any, function).__globals__, **names}))


class Vector(types.Type):
    """The type of eight doubles."""

    def __init__(self) -> None:
        super().__init__(name=f"Vector{WIDTH}")


_vector = Vector()


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        cast(Any, super()).__init__(manager, kind, _REGISTER)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    first = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(first, [index], inbounds=True), _REGISTER.as_pointer())


def _load(_: Any, array: Any, index: Any) -> Any:
    def code(context: Any, builder: Any, called: Any, values: Any) -> Any:
        result = builder.load(_pointer(context, builder, called.args[0], values[0], values[1]))
        result.align = 8
        return result

    return templates.signature(_vector, array, index), code


def _store(_: Any, array: Any, index: Any, value: Any) -> Any:
    def code(context: Any, builder: Any, called: Any, values: Any) -> Any:
        builder.store(values[2], _pointer(context, builder, called.args[0], values[0], values[1])).align = 8
        return context.get_dummy_value()

    return templates.signature(types.void, array, index, value), code


# Elements ``index`` to ``index`` + 7 of an array of doubles without gaps.
load = cast(Callable[[Floats, Any], Any], intrinsic(_load))
store = cast(Callable[[Floats, Any, Any], None], intrinsic(_store))


def _operator(of: Callable[[Any, Any], Any], name: str) -> None:
    @templates.infer_global(of)
    class Typing(_templates.AbstractTemplate):
        def generic(self, args: Any, _: Any) -> Any:
            both = len(args) == 2 and all(isinstance(arg, Vector) for arg in args)
            return templates.signature(_vector, _vector, _vector) if both else None

    def code(_context: Any, builder: Any, _called: Any, values: Any) -> Any:
        return getattr(builder, name)(*values)

    vector_operator(of, Vector, Vector)(code)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
