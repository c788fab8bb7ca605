"""The names of the package, which mean one thing."""

import importlib
import inspect
import pkgutil

import torch_geometric_ddp


def packages():
    """All packages, the outer one first."""
    yield torch_geometric_ddp
    for info in pkgutil.walk_packages(torch_geometric_ddp.__path__, "torch_geometric_ddp."):
        if info.ispkg:
            yield importlib.import_module(info.name)


def test_no_function_or_class_hides_a_module():
    """What a package gives by the name of one of its modules is that module."""
    found = 0
    for package in packages():
        for info in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{package.__name__}.{info.name}")
            given = getattr(package, info.name)
            assert inspect.ismodule(given), f"{package.__name__}.{info.name} is {given!r}"
            assert info.name not in getattr(package, "__all__", ()), info.name
            found += 1
    assert found > 80


def test_no_public_name_is_that_of_a_module_of_the_package():
    """Also not of a module elsewhere in the package's own tree of names at the top."""
    top = {info.name for info in pkgutil.iter_modules(torch_geometric_ddp.__path__)}
    for package in packages():
        public = set(getattr(package, "__all__", ()))
        assert not public & top, f"{package.__name__} has {sorted(public & top)}"


def test_no_property_begins_with_a_colon():
    """The pages would take what stands before it in the first line for its type."""
    found = 0
    for info in pkgutil.walk_packages(torch_geometric_ddp.__path__, "torch_geometric_ddp."):
        module = importlib.import_module(info.name)
        for name, kind in inspect.getmembers(module, inspect.isclass):
            for member, value in vars(kind).items() if kind.__module__ == info.name else ():
                if isinstance(value, property):
                    first = (inspect.getdoc(value) or "").partition("\n")[0]
                    assert ": " not in first, f"{info.name}.{name}.{member}"
                    found += 1
    assert found > 60
