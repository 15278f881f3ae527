"""Plans in Python whose search for an order is machine code: of all the compiled code this part is ready in two seconds."""

from __future__ import annotations

from ddx.inference import layout, program
from ddx.inference.kernel_base import compile_function, renamed

search = compile_function(layout.search)
plan_case = renamed(program.plan_case, search=search)
