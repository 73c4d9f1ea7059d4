"""A mesh that follows exact fields: on the surface, with every triangle on its own side."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small_fits import ball

from sdfcore.fields import Field, box, offset, sphere
from sdfcore.geometry import Box, Mesh
from sdfcore.spaces.following import follow


def around(*half: float, centre: tuple[float, ...] = (0.0, 0.0, 0.0)) -> Box:
    return Box(np.array(centre) - half, np.array(centre) + half)


def ellipsoid(*radii: float) -> Field:
    """No distance, but zero on the ellipsoid; its gradient is up to three times too long or too short."""
    return lambda x: ((x / x.new_tensor(radii)).norm(dim=-1) - 1) * min(radii)


def capsule(half: float, radius: float) -> Field:
    """Exact distance to a segment of half length ``half`` along x, grown by ``radius``."""

    def distance(x: torch.Tensor) -> torch.Tensor:
        along = x[:, :1].clamp(-half, half)
        return torch.cat([x[:, :1] - along, x[:, 1:]], dim=1).norm(dim=-1) - radius

    return distance


def off_surface(field: Field, places: np.ndarray) -> float:
    return float(field(torch.tensor(places)).abs().max())


def last(mesh: Mesh, stages: list[tuple[Field, Box]]) -> Mesh:
    *_, places = follow(mesh.vertices, mesh.faces, stages)
    return Mesh(places, mesh.faces)


def outward(mesh: Mesh) -> np.ndarray:
    """(F,) cosine between each face and the direction away from the origin."""
    normals, centres = mesh.face_vectors(), mesh.triangles.mean(axis=1)
    return (normals * centres).sum(axis=1) / np.linalg.norm(normals, axis=1) / np.linalg.norm(centres, axis=1)


def test_a_box_that_moves_and_grows_takes_the_mesh_along_exactly():
    mesh = ball(0.5)
    centre = (20.0, -3.0, 1.0)
    stages = [(sphere(0.5), around(0.5, 0.5, 0.5)), (sphere(2.0, centre), around(2, 2, 2, centre=centre))]
    first, second = follow(mesh.vertices, mesh.faces, stages)
    np.testing.assert_allclose(first, mesh.vertices, atol=1e-9)
    np.testing.assert_allclose(second, mesh.vertices * 4.0 + [20, -3, 1], atol=1e-5)


def test_a_sphere_becomes_an_ellipsoid_though_its_box_says_nothing_of_it():
    mesh = ball(0.3, subdivisions=4)
    stages = [(ellipsoid(0.3 + 0.5 * t, 0.3, 0.3 - 0.1 * t), around(1, 1, 1)) for t in np.linspace(0, 1, 9)]
    found = last(mesh, stages)
    assert off_surface(stages[-1][0], found.vertices) < 1e-4
    assert np.ptp(found.vertices, axis=0) == pytest.approx([1.6, 0.6, 0.4], rel=0.01)
    assert outward(found).min() > 0
    assert found.volume() == pytest.approx(4 / 3 * np.pi * 0.8 * 0.3 * 0.2, rel=0.06)
    area = np.linalg.norm(found.face_vectors(), axis=1)
    assert area.min() > 0.05 * np.median(area)


def test_a_ball_grows_into_a_capsule_and_back():
    there = [(capsule(0.5 * t, 0.25), around(0.25 + 0.5 * t, 0.25, 0.25)) for t in np.linspace(0, 1, 13)]
    mesh = ball(0.25, subdivisions=4)
    found = last(mesh, there)
    assert off_surface(there[-1][0], found.vertices) < 1e-6
    assert outward(found).min() > -0.05  # a triangle of the side looks along the cylinder, not to its middle
    assert found.volume() == pytest.approx(np.pi * 0.25**2 * 1.0 + 4 / 3 * np.pi * 0.25**3, rel=0.04)
    again = last(mesh, there + there[::-1])
    assert outward(again).min() > 0.8
    assert again.volume() == pytest.approx(mesh.volume(), rel=0.02)


def test_a_shape_at_rest_keeps_every_vertex():
    mesh = ball(0.4)
    resting = offset(box((0.3, 0.2, 0.1)), 0.05)
    (start,) = follow(mesh.vertices, mesh.faces, [(resting, around(0.35, 0.25, 0.15))])
    places = list(follow(start, mesh.faces, [(resting, around(0.35, 0.25, 0.15))] * 5))
    assert np.abs(places[-1] - start).max() < 1e-3


def test_it_can_be_cancelled_between_stages():
    def give_up() -> None:
        raise KeyError("cancelled")

    mesh = ball(0.5)
    with pytest.raises(KeyError):
        list(follow(mesh.vertices, mesh.faces, [(sphere(0.5), around(0.5, 0.5, 0.5))], on_stage=give_up))
