"""Running on NVIDIA cards, through the driver alone: no toolkit, no PyTorch.

`library` calls the driver; `context`, `stream`, `memory`, `module` and `graph` are what it has,
with the rule that nothing is freed while a stream may still use it; `pages` plans weights in a
budget.
"""
