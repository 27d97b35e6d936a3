#!/usr/bin/env bash
# Versions:  CPython 3.11, beartype 0.23.1, jaxtyping 0.3.11, tqdm 4.70.1
# Behaviour: beartype does not look into one-shot iterators, because that would consume them, but it checks the first item
#            of an object with `__len__`, `__iter__` and `__contains__`. A tqdm progress bar has all three even if it wraps
#            a generator. A parameter `Iterable[int]` that is given such a bar loses the first item if the bar is shown,
#            and every item if it is disabled, without an error. If the generator has no item although `total` says so,
#            the check itself raises StopIteration. With jaxtyping, which checks the parameters again together with the
#            result, the error then says that the return value is wrong, although it has the declared type.
# Remedy:    Create the bar inside the function that iterates over it, or pass iter(bar).
# Output:    generator: [0, 1, 2]
#            bar that is shown: [1, 2]
#            bar that is disabled: []
#            iterator of a disabled bar: [0, 1, 2]
#            bar without items: StopIteration
#            bar of one item, with jaxtyping: Type-check error whilst checking the return value
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv env
env/bin/pip install --quiet --disable-pip-version-check beartype==0.23.1 jaxtyping==0.3.11 tqdm==4.70.1

cat > bars.py <<'PYTHON'
import io
from collections.abc import Iterable

from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from tqdm import tqdm


def numbers(count):
    for number in range(count):
        yield number


def bar(count, total, disable=True):
    return tqdm(numbers(count), total=total, disable=disable, file=io.StringIO())


@beartype
def collect(items: Iterable[int]) -> list[int]:
    return list(items)


@jaxtyped(typechecker=beartype)
def collect_with_jaxtyping(items: Iterable[int]) -> list[int]:
    return list(items)


print("generator:", collect(numbers(3)))
print("bar that is shown:", collect(bar(3, 3, disable=False)))
print("bar that is disabled:", collect(bar(3, 3)))
print("iterator of a disabled bar:", collect(iter(bar(3, 3))))
try:
    print("bar without items:", collect(bar(0, 1)))
except StopIteration:
    print("bar without items: StopIteration")
try:
    print("bar of one item, with jaxtyping:", collect_with_jaxtyping(bar(1, 1)))
except TypeCheckError as error:
    print("bar of one item, with jaxtyping:", str(error).split(" of __main__")[0])
PYTHON

env/bin/python bars.py | tee seen.txt
diff seen.txt - <<'EXPECTED'
generator: [0, 1, 2]
bar that is shown: [1, 2]
bar that is disabled: []
iterator of a disabled bar: [0, 1, 2]
bar without items: StopIteration
bar of one item, with jaxtyping: Type-check error whilst checking the return value
EXPECTED
