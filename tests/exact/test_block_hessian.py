"""What a Hessian answers, held as one matrix or as blocks."""

import math
from html.parser import HTMLParser

import pytest
import torch
from torch import Tensor

from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError
from hesse.layout import Layout
from hesse.matrix.block_hessian import BlockHessian
from hesse.matrix.spectrum import Inertia

LAYOUT = Layout(("w", "b", "scale"), ((2, 3), (3,), ()))
PAIRS = [("w", "w"), ("w", "b"), ("w", "scale"), ("b", "b"), ("b", "scale"), ("scale", "scale")]


def symmetric(size: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    half = torch.randn(size, size, dtype=dtype, generator=torch.Generator().manual_seed(seed))
    return half + half.T


def blocks_of(
    matrix: Tensor, pairs: list[tuple[str, str]], layout: Layout = LAYOUT
) -> dict[tuple[str, str], Tensor]:
    return {(a, b): matrix[layout.slice(a), layout.slice(b)] for a, b in pairs}


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def matrix(request: pytest.FixtureRequest) -> Tensor:
    return symmetric(LAYOUT.size, request.param)


@pytest.fixture(params=["matrix", "blocks"])
def whole(request: pytest.FixtureRequest, matrix: Tensor) -> BlockHessian:
    """All blocks, held either way."""
    if request.param == "matrix":
        return BlockHessian(LAYOUT, matrix=matrix)
    return BlockHessian(LAYOUT, blocks=blocks_of(matrix, PAIRS))


@pytest.fixture
def block_diagonal(matrix: Tensor) -> BlockHessian:
    return BlockHessian(LAYOUT, blocks=blocks_of(matrix, [(name, name) for name in LAYOUT.names]))


def test_blocks_have_both_shapes_and_share_memory(whole: BlockHessian, matrix: Tensor) -> None:
    for a in LAYOUT.names:
        for b in LAYOUT.names:
            block = whole[a, b]
            assert block.shape == (*LAYOUT.shape(a), *LAYOUT.shape(b))
            assert torch.equal(
                block.reshape(LAYOUT.sizes[a], LAYOUT.sizes[b]),
                matrix[LAYOUT.slice(a), LAYOUT.slice(b)],
            )
            assert block.untyped_storage().data_ptr() == matrix.untyped_storage().data_ptr()
    assert torch.equal(whole["b", "w"], whole["w", "b"].permute(2, 0, 1))


def test_dense_is_the_matrix_that_is_held(matrix: Tensor) -> None:
    assert BlockHessian(LAYOUT, matrix=matrix).dense() is matrix


def test_dense_of_blocks_is_symmetric_and_in_layout_order(
    whole: BlockHessian, matrix: Tensor
) -> None:
    assert torch.equal(whole.dense(), matrix)


def test_the_only_block_is_the_matrix() -> None:
    matrix = symmetric(4)
    hessian = BlockHessian(Layout(("w",), ((2, 2),)), blocks={("w", "w"): matrix})
    assert hessian.dense() is matrix
    assert hessian.is_complete and hessian.is_block_diagonal


def test_diagonal(whole: BlockHessian, matrix: Tensor) -> None:
    diagonal = whole.diagonal()
    assert {name: tuple(value.shape) for name, value in diagonal.items()} == dict(
        zip(LAYOUT.names, LAYOUT.shapes, strict=True)
    )
    assert torch.equal(LAYOUT.flatten(diagonal), matrix.diagonal())


@pytest.mark.parametrize("columns", [None, 1, 4])
def test_product(whole: BlockHessian, matrix: Tensor, columns: int | None) -> None:
    v = torch.randn(
        *([LAYOUT.size] if columns is None else [LAYOUT.size, columns]), dtype=matrix.dtype
    )
    torch.testing.assert_close(whole @ v, matrix @ v)


def test_product_with_a_dictionary(whole: BlockHessian, matrix: Tensor) -> None:
    v = torch.randn(LAYOUT.size, dtype=matrix.dtype)
    product = whole @ LAYOUT.unflatten(v)
    assert list(product) == list(LAYOUT.names) and product["w"].shape == (2, 3)
    torch.testing.assert_close(LAYOUT.flatten(product), matrix @ v)


def test_product_of_the_block_diagonal(block_diagonal: BlockHessian, matrix: Tensor) -> None:
    v = torch.randn(LAYOUT.size, dtype=matrix.dtype)
    parts = [matrix[LAYOUT.slice(n), LAYOUT.slice(n)] for n in LAYOUT.names]
    torch.testing.assert_close(block_diagonal @ v, torch.block_diag(*parts) @ v)


def test_eigenvectors_rebuild_the_matrix_and_are_computed_once(
    whole: BlockHessian, matrix: Tensor
) -> None:
    values, vectors = whole.eigh()
    torch.testing.assert_close(vectors @ torch.diag(values) @ vectors.T, matrix)
    assert whole.eigh().vectors is vectors
    assert whole.eigvalsh() is values
    assert bool((values.diff() >= 0).all())


def with_spectrum(values: list[float], dtype: torch.dtype = torch.float64) -> BlockHessian:
    count = len(values)
    rotation = torch.linalg.qr(symmetric(count)).Q
    matrix = (rotation @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ rotation.T).to(
        dtype
    )
    return BlockHessian(Layout(("θ",), ((count,),)), matrix=(matrix + matrix.T) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_inertia_counts_what_rounding_decides(dtype: torch.dtype) -> None:
    hessian = with_spectrum([-3.0, -0.5, 0.0, 0.0, 1.0, 2.0, 10.0], dtype)
    assert hessian.inertia() == Inertia(negative=2, undecided=2, positive=3)
    assert hessian.condition_number() == math.inf
    assert hessian.tolerance == pytest.approx(7 * torch.finfo(dtype).eps * 10, rel=1e-5)


def test_condition_number() -> None:
    assert with_spectrum([-8.0, 0.5, 4.0]).condition_number() == pytest.approx(16.0)
    zero = BlockHessian(Layout(("w",), ((2,),)), matrix=torch.zeros(2, 2))
    assert zero.condition_number() == math.inf
    assert zero.inertia() == Inertia(0, 2, 0)


def test_no_parameters_at_all() -> None:
    empty = BlockHessian(Layout(("w",), ((0, 3),)), matrix=torch.zeros(0, 0))
    assert empty.inertia() == Inertia(0, 0, 0)
    assert empty["w", "w"].shape == (0, 3, 0, 3)
    assert "P = 0" in repr(empty) and empty._repr_html_()


def test_it_cannot_be_changed(whole: BlockHessian) -> None:
    with pytest.raises(AttributeError):
        whole.matrix = None  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("ask", "error", "text"),
    [
        (lambda H: H["w", "bb"], HesseKeyError, r"no parameter is named 'bb'; the nearest.*'b'"),
        (lambda H: H["w"], HesseTypeError, r"named by two parameters, H\['a', 'b'\]; got 'w'"),
        (
            lambda H: H["w", "b"],
            HesseKeyError,
            r"H\['w', 'b'\] was not computed; those that were: \('w', 'w'\), \('b', 'b'\)",
        ),
        (
            lambda H: H.dense(),
            HesseValueError,
            r"dense\(\) needs blocks that were not computed: \('w', 'b'\), \('w', 'scale'\)",
        ),
        (
            lambda H: H.eigh(),
            HesseValueError,
            r"the spectrum needs blocks that were not computed.*without pairs= and block_diag",
        ),
        (
            lambda H: H @ torch.ones(3),
            HesseValueError,
            r"expected a vector \(10,\) or a matrix \(10, K\), got shape \(3,\)",
        ),
        (
            lambda H: H @ torch.ones(10, dtype=torch.float16),
            HesseValueError,
            r"v is float16 on cpu; pass v.to\(H.device",
        ),
        (
            lambda H: H @ [1.0],
            HesseTypeError,
            r"expected a tensor, a dictionary of tensors or a NumPy array, got list",
        ),
        (lambda H: H @ {"w": torch.ones(2, 3)}, HesseKeyError, r"missing \['b', 'scale'\]"),
    ],
)
def test_errors_of_asking(
    block_diagonal: BlockHessian, ask, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        ask(block_diagonal)


def test_chosen_pairs_have_neither_product_nor_diagonal(matrix: Tensor) -> None:
    hessian = BlockHessian(LAYOUT, blocks=blocks_of(matrix, [("w", "b")]))
    assert torch.equal(hessian["b", "w"].reshape(3, 6), matrix[6:9, :6])
    with pytest.raises(HesseValueError, match="H @ v needs blocks that were not computed"):
        _ = hessian @ torch.ones(10, dtype=matrix.dtype)
    with pytest.raises(
        HesseValueError, match=r"diagonal\(\): not computed: \('w', 'w'\), .*hesse.diagonal\(cost\)"
    ):
        hessian.diagonal()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "either matrix= .* or blocks="),
        ({"matrix": torch.eye(10), "blocks": {}}, "either matrix= .* or blocks="),
        (
            {"matrix": torch.eye(9)},
            r"matrix: expected shape \(10, 10\) for this layout, got \(9, 9\)",
        ),
        ({"blocks": {}}, "expected at least one block"),
        (
            {"blocks": {("b", "w"): torch.ones(3, 6)}},
            r"'b' comes after 'w' in the layout; give the pair as \('w', 'b'\)",
        ),
        (
            {"blocks": {("w", "b"): torch.ones(3, 6)}},
            r"\('w', 'b'\) has shape \(3, 6\), expected \(6, 3\)",
        ),
        (
            {"blocks": {("b", "b"): torch.eye(3), ("w", "w"): torch.eye(6).double()}},
            "one dtype and one device",
        ),
    ],
)
def test_errors_of_building(arguments: dict, text: str) -> None:
    with pytest.raises(HesseValueError, match=text):
        BlockHessian(LAYOUT, **arguments)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_spectrum_of_entries_that_are_not_finite(bad: float) -> None:
    matrix = symmetric(10)
    matrix[7, 7] = bad
    with pytest.raises(HesseValueError, match=r"not finite, in the blocks \('b', 'b'\)$"):
        BlockHessian(LAYOUT, matrix=matrix).eigh()


def test_repr_is_the_table_of_norms(block_diagonal: BlockHessian, whole: BlockHessian) -> None:
    assert "block diagonal" in repr(block_diagonal) and "·" in repr(block_diagonal)
    text = repr(whole)
    assert text.startswith("BlockHessian: P = 10, 3 parameters, float") and "all blocks" in text
    assert f"{whole.norms['w', 'b']:.3g}" in text and "(2, 3)" in text


def many(count: int, name: str) -> BlockHessian:
    layout = Layout(tuple(f"{name}.{i}.weight" for i in range(count)), ((3,),) * count)
    return BlockHessian(layout, matrix=symmetric(layout.size))


@pytest.mark.parametrize("count", [1, 5, 7, 16, 17, 40, 200])
@pytest.mark.parametrize(
    "name",
    ["layer", "encoder.layers.of_a_model_whose_author_likes_very_long_names_for_its_modules"],
)
def test_repr_fits_a_terminal(count: int, name: str) -> None:
    lines = repr(many(count, name)).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100


def test_folded_table_names_the_largest_mixed_block() -> None:
    hessian = many(30, "layer")
    row = next(line for line in repr(hessian).splitlines() if "layer.0.weight" in line)
    norm, partner = max(
        (norm, b) for (a, b), norm in hessian.norms.items() if a == "layer.0.weight" != b
    )
    assert row.split()[-2:] == [f"{norm:.3g}", str(hessian.layout.index(partner))]


def test_html_escapes_names() -> None:
    class Reader(HTMLParser):
        tags: set[str] = set()  # noqa: RUF012
        text = ""

        def handle_starttag(self, tag: str, attrs: list) -> None:
            self.tags.add(tag)

        def handle_data(self, data: str) -> None:
            self.text += data

    name = "<script>alert('&')</script>\x1b[31m"
    hessian = BlockHessian(Layout((name, "b"), ((2,), (1,))), matrix=symmetric(3))
    reader = Reader()
    reader.feed(hessian._repr_html_())
    assert reader.tags == {
        "div",
        "p",
        "strong",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
    }
    assert r"<script>alert('&')</script>\x1b[31m" in reader.text
    assert "\x1b" not in repr(hessian)
