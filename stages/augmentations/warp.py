"""Sampling map of an image: composed matrices and displacements, applied once to the image and its labels.

Axes: B images, S working size, N nodes along a side of a lattice, P points. Coordinates are in working pixels, x before
y; the centre of the first pixel is 0. The map g gives for each position of the new image its position in the original:

    g(x) = M (x + d_1(x) + d_2(x) + ...)

where M is the inverse of the composed matrices and each d_k is a uniform cubic B-spline over a lattice of nodes. A
spline is linear in its nodes, so M can be applied to the nodes, and the map of an image is one matrix product of
[S, N + 2] (basis of the rows, one, y) with [N + 2, 2 S].
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch.nn import functional

from stages.core.shapes import Bool, Float

Tensor = torch.Tensor
LEAST_AREA = 0.1  # smallest Jacobian determinant; below it the map counts as folded
_CHECKED = 33, 8 / 3  # minimum positions along a side that are checked for folds: in total, and per lattice span
_STARTS = 65  # maximum start positions along a side for Newton's method
_STEPS = 8  # iterations of Newton's method; 4 reached 1e-3 pixels in tests
_LOST = 0.5  # residual in pixels from which Newton's method has failed
_MILDER = (0.7, 0.7, 0.7, 0.7, 0.7, 0.0)  # successive factors of a displacement that folds the image


@dataclass(frozen=True)
class Lattice:
    """Displacement field, added to positions of the new image before the matrix is applied."""

    node_BNN2: Float[Tensor, "B N N 2"]
    """Coefficients, pixels, rows first. Nodes are one span apart and extend one span beyond the image."""

    @property
    def spans(self) -> int:
        """Number of spans along a side of the image."""
        return self.node_BNN2.shape[1] - 3


def node_places(spans: int, size: int, device: torch.device) -> Float[Tensor, "{spans}+3 {spans}+3 2"]:
    """Return the positions of lattice nodes, pixels.

    Args:
        spans: number of spans along a side.
        size: working size S, pixels.
        device: device of the result.
    """
    along_N = (torch.arange(spans + 3, device=device) - 1) * (size / spans) - 0.5
    y_NN, x_NN = torch.meshgrid(along_N, along_N, indexing="ij")
    return torch.stack([x_NN, y_NN], dim=-1)


def _basis(
    place: Float[Tensor, "*P"], spans: int, size: int, derivative: bool = False
) -> Float[Tensor, "*P {spans}+3"]:
    """Return the uniform cubic B-spline basis at positions, or its derivative.

    The spline is constant beyond the edges.
    """
    wanted = (place + 0.5) * (spans / size)
    along = wanted.clamp(0, spans)
    first = along.floor().clamp(max=spans - 1)
    t = along - first
    if derivative:
        weights = [-((1 - t) ** 2) / 2, (3 * t**2 - 4 * t) / 2, (-3 * t**2 + 2 * t + 1) / 2, t**2 / 2]
        weights = [weight * (wanted == along) * (spans / size) for weight in weights]
    else:
        weights = [
            (1 - t) ** 3 / 6,
            (3 * t**3 - 6 * t**2 + 4) / 6,
            (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6,
            t**3 / 6,
        ]
    basis = torch.zeros((*place.shape, spans + 3), device=place.device)
    basis.scatter_(-1, first.long()[..., None] + torch.arange(4, device=place.device), torch.stack(weights, dim=-1))
    return basis


@dataclass(frozen=True)
class Warp:
    """Geometric transformation of a batch of images."""

    matrix_B33: Float[Tensor, "B 3 3"]
    """Homogeneous matrix from original to new positions, as in Kornia, without the displacements."""
    size: int
    outside: str
    """Padding mode beyond the edge: zeros, border or reflection."""
    lattices: tuple[Lattice, ...] = field(default=())

    def displaced(self, spans: int, at: Callable[[Tensor], Tensor]) -> "Warp":
        """Return the warp with one more displacement.

        For each image whose map would fold or nearly fold, the displacement is reduced stepwise down to a sixth, and
        then omitted.

        Args:
            spans: number of lattice spans along a side.
            at: function of positions [B, N, N, 2] that returns the displacement there, pixels.
        """
        place_BNN2 = node_places(spans, self.size, self.matrix_B33.device).expand(len(self.matrix_B33), -1, -1, -1)
        node_BNN2 = at(place_BNN2 + self._displacement(place_BNN2))
        for factor in _MILDER:
            folded_B = self._with(node_BNN2)._folded()
            if not bool(folded_B.any()):
                break
            node_BNN2 = torch.where(folded_B[:, None, None, None], node_BNN2 * factor, node_BNN2)
        return self._with(node_BNN2)

    def _with(self, node_BNN2: Float[Tensor, "B N N 2"]) -> "Warp":
        return Warp(self.matrix_B33, self.size, self.outside, (*self.lattices, Lattice(node_BNN2)))

    def _folded(self) -> Bool[Tensor, " B"]:
        """Return whether the map of each image folds or nearly folds."""
        places = self._checked()
        step = self.size / (places - 1)
        moved_BCC2 = self._on_grid(torch.linspace(-0.5, self.size - 0.5, places, device=self.matrix_B33.device))
        down_BCC2 = moved_BCC2.diff(dim=1)[:, :, :-1] / step
        across_BCC2 = moved_BCC2.diff(dim=2)[:, :-1] / step
        area_BCC = (1 + across_BCC2[..., 0]) * (1 + down_BCC2[..., 1]) - across_BCC2[..., 1] * down_BCC2[..., 0]
        return area_BCC.flatten(1).amin(dim=1) < LEAST_AREA

    def _checked(self) -> int:
        return max(_CHECKED[0], *(round(_CHECKED[1] * one.spans) + 1 for one in self.lattices))

    def _on_grid(self, place_C: Float[Tensor, " C"]) -> Float[Tensor, "B C C 2"]:
        """Return the sum of all displacements on a regular grid, rows first."""
        moved_BCC2 = torch.zeros((len(self.matrix_B33), len(place_C), len(place_C), 2), device=place_C.device)
        for one in self.lattices:
            basis_CN = _basis(place_C, one.spans, self.size)
            row_BCN2 = torch.einsum("yi,bijc->byjc", basis_CN, one.node_BNN2)
            moved_BCC2 = moved_BCC2 + torch.einsum("xj,byjc->byxc", basis_CN, row_BCN2)
        return moved_BCC2

    @cached_property
    def inverse_B33(self) -> Float[Tensor, "B 3 3"]:
        """Homogeneous matrices from new to original positions."""
        return torch.linalg.inv(self.matrix_B33)

    @cached_property
    def mirrored_B(self) -> Bool[Tensor, " B"]:
        """Return whether each image is mirrored."""
        return self.matrix_B33[:, :2, :2].det() < 0

    @cached_property
    def grid_BSS2(self) -> Float[Tensor, "B {self.size} {self.size} 2"]:
        """Sampling grid in the coordinates of `grid_sample`: -1 and 1 are the image edges."""
        inverse_B33, size = self.inverse_B33, self.size
        place_S = torch.arange(size, device=inverse_B33.device, dtype=torch.float32)
        origin_BS2 = inverse_B33[:, None, :2, 0] * place_S[:, None] + inverse_B33[:, None, :2, 2]
        right_B1S2 = [(origin_BS2 * (2 / size) + (1 / size - 1))[:, None]]
        right_B1S2.append((inverse_B33[:, :2, 1] * (2 / size))[:, None, None].expand(-1, 1, size, 2))
        left_S1 = [torch.ones_like(place_S)[:, None], place_S[:, None]]
        linear_B22 = inverse_B33[:, :2, :2].mT * (2 / size)
        for one in self.lattices:
            basis_SN = _basis(place_S, one.spans, size)
            node_BNN2 = one.node_BNN2 @ linear_B22[:, None]
            right_B1S2.append(torch.einsum("xj,bijc->bixc", basis_SN, node_BNN2))
            left_S1.append(basis_SN)
        right_BNX = torch.cat(right_B1S2, dim=1).flatten(2)
        return torch.matmul(torch.cat(left_S1, dim=1), right_BNX).reshape(len(inverse_B33), size, size, 2)

    def sample(
        self,
        value_BCSS: Float[Tensor, "B C {self.size} {self.size}"],
        mode: str,
        outside: str | None = None,
        beyond: float = 0.0,
    ) -> Float[Tensor, "B C {self.size} {self.size}"]:
        """Resample values at each position of the new image.

        Args:
            value_BCSS: values, float32; torch samples wrong planes in half precision on the CPU.
            mode: `bilinear` or `nearest`.
            outside: padding mode; by default `self.outside`.
            beyond: value outside the image for padding mode `zeros`.

        Returns:
            The values, float32.
        """
        assert value_BCSS.dtype == torch.float32 and value_BCSS.shape[2:] == (self.size, self.size)
        shifted = value_BCSS - beyond if beyond else value_BCSS
        moved = functional.grid_sample(shifted, self.grid_BSS2, mode, outside or self.outside, align_corners=False)
        return moved + beyond if beyond else moved

    @cached_property
    def area_BSS(self) -> Float[Tensor, "B {self.size} {self.size}"]:
        """Area of the original image that each new pixel shows, in original pixels."""
        grid_BSS2 = functional.pad(self.grid_BSS2.movedim(3, 1), (1, 1, 1, 1), "replicate").movedim(1, 3)
        reach = torch.full((self.size,), 2.0, device=grid_BSS2.device)
        reach[0] = reach[-1] = 1.0  # at the edges the difference spans one pixel
        scale = self.size / 2
        across = (grid_BSS2[:, 1:-1, 2:] - grid_BSS2[:, 1:-1, :-2]) * scale / reach[:, None]
        down = (grid_BSS2[:, 2:, 1:-1] - grid_BSS2[:, :-2, 1:-1]) * scale / reach[:, None, None]
        return (across[..., 0] * down[..., 1] - across[..., 1] * down[..., 0]).abs()

    def points(self, xy_BP2: Float[Tensor, "B P 2"]) -> Float[Tensor, "B P 2"]:
        """Return the new positions of points of the original image; they may lie outside.

        Without displacements, the matrix is applied; otherwise g(x) = xy is solved by Newton's method, starting at the
        nearest of a grid of positions. NaN remains NaN; points for which the method fails, observed only where the
        map nearly folds, become NaN.
        """
        known_BP3 = functional.pad(xy_BP2, (0, 1), value=1.0)
        if not self.lattices:
            return (known_BP3 @ self.matrix_B33.mT.to(xy_BP2))[..., :2]
        wanted_BP2 = (known_BP3.nan_to_num() @ self.matrix_B33.mT.to(xy_BP2))[..., :2]  # x + d(x) = M^-1 xy
        place_BP2 = self._nearest(wanted_BP2)
        for _ in range(_STEPS):
            short_BP2 = wanted_BP2 - place_BP2 - self._displacement(place_BP2)
            slope_BP22 = torch.eye(2, device=xy_BP2.device) + self._slope(place_BP2)
            place_BP2 = place_BP2 + torch.linalg.solve(slope_BP22, short_BP2[..., None])[..., 0]
        short_BP2 = wanted_BP2 - place_BP2 - self._displacement(place_BP2)
        known_BP1 = (short_BP2.abs() < _LOST).all(dim=2, keepdim=True) & ~xy_BP2.isnan()
        return torch.where(known_BP1, place_BP2, torch.nan)

    def _nearest(self, wanted_BP2: Float[Tensor, "B P 2"]) -> Float[Tensor, "B P 2"]:
        """Return the grid position that, once displaced, is nearest to each target position."""
        place_C = torch.linspace(-0.5, self.size - 0.5, min(_STARTS, self._checked()), device=wanted_BP2.device)
        y_CC, x_CC = torch.meshgrid(place_C, place_C, indexing="ij")
        place_CC2 = torch.stack([x_CC, y_CC], dim=2)
        moved_BC2 = (place_CC2 + self._on_grid(place_C)).flatten(1, 2)
        best_BP = torch.cdist(wanted_BP2, moved_BC2).argmin(dim=2)
        place_BC2 = place_CC2.flatten(0, 1).expand(len(wanted_BP2), -1, -1)
        return place_BC2.gather(1, best_BP[..., None].expand(-1, -1, 2))

    def _displacement(self, place: Float[Tensor, "B *P 2"]) -> Float[Tensor, "B *P 2"]:
        """Return the sum of all displacements at positions."""
        flat_BP2 = place.flatten(1, -2)
        moved_BP2 = torch.zeros_like(flat_BP2)
        for one in self.lattices:
            x_BPN, y_BPN = (_basis(flat_BP2[..., axis], one.spans, self.size) for axis in (0, 1))
            moved_BP2 = moved_BP2 + _contracted(y_BPN, x_BPN, one.node_BNN2)
        return moved_BP2.reshape(place.shape)

    def _slope(self, place_BP2: Float[Tensor, "B P 2"]) -> Float[Tensor, "B P 2 2"]:
        """Return the Jacobian of the displacement; the last axis is the derivative with respect to x and y."""
        slope_BP22 = torch.zeros((*place_BP2.shape, 2), device=place_BP2.device)
        for one in self.lattices:
            x_BPN, y_BPN = (_basis(place_BP2[..., axis], one.spans, self.size) for axis in (0, 1))
            dx_BPN, dy_BPN = (_basis(place_BP2[..., axis], one.spans, self.size, True) for axis in (0, 1))
            by_x, by_y = _contracted(y_BPN, dx_BPN, one.node_BNN2), _contracted(dy_BPN, x_BPN, one.node_BNN2)
            slope_BP22 = slope_BP22 + torch.stack([by_x, by_y], dim=-1)
        return slope_BP22

    def only(self, index: int) -> "Warp":
        """Return the warp of one image, as a batch of one."""
        one = slice(index, index + 1)
        lattices = tuple(Lattice(lattice.node_BNN2[one]) for lattice in self.lattices)
        warp = Warp(self.matrix_B33[one], self.size, self.outside, lattices)
        vars(warp)["grid_BSS2"] = self.grid_BSS2[one]
        return warp


def _contracted(
    y_BPN: Float[Tensor, "B P N"], x_BPN: Float[Tensor, "B P N"], node_BNN2: Float[Tensor, "B N N 2"]
) -> Float[Tensor, "B P 2"]:
    row_BPN2 = (y_BPN @ node_BNN2.flatten(2)).reshape(*y_BPN.shape[:2], -1, 2)
    return (row_BPN2 * x_BPN[..., None]).sum(dim=2)
