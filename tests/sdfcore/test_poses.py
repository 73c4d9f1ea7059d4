"""Scale, place and turning between a scan and its family, against exact arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from small_fits import Array, directions
from small_spaces import values

from sdfcore.evidence import Evidence
from sdfcore.fields import NeuralSDF
from sdfcore.geometry import Box, Frame
from sdfcore.networks import CodedMLP, Turned
from sdfcore.spaces.poses import Posed, Poses, frame_through, matched, quarter_turns, turned_box

TURNS = Rotation.random(3, random_state=0).as_matrix()
SCALES = np.array([1.0, 0.5, 2.5])
SHIFTS = np.array([[0.0, 0, 0], [0.1, -0.2, 0.3], [-0.4, 0.0, 0.2]])


def network(skip: int = 2) -> CodedMLP:
    torch.manual_seed(0)
    made = CodedMLP(3, 16, 4, skip=skip, beta=10.0)
    for layer in [*made.gains, *made.shifts]:
        torch.nn.init.normal_(layer.weight, std=0.3)
    return made


CODES = torch.randn(3, 3, generator=torch.Generator().manual_seed(1))
POINTS = torch.rand(60, 3, generator=torch.Generator().manual_seed(2)) * 2 - 1


def asked(points: Array, which: int) -> Array:
    """The network at x = s R p + t."""
    placed = torch.as_tensor(SCALES[which] * points @ TURNS[which].T + SHIFTS[which], dtype=torch.float32)
    with torch.no_grad():
        found: Array = network()(placed[None], CODES[which : which + 1])[0].numpy()
    return found


@pytest.mark.parametrize("which", range(3))
def test_a_posed_field_is_the_network_s_at_the_moved_point_in_the_scan_s_lengths(which: int) -> None:
    poses = Poses(TURNS, SCALES, SHIFTS)
    field = Posed(network(), CODES, poses, which)
    with torch.no_grad():
        np.testing.assert_allclose(field(POINTS), asked(POINTS.numpy(), which) / SCALES[which], atol=2e-6)


@pytest.mark.parametrize("which", range(3))
def test_its_derivatives_are_those_of_autograd(which: int) -> None:
    field = Posed(network(), CODES, Poses(TURNS, SCALES, SHIFTS), which)
    points = POINTS.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(field(points).sum(), points)
    axes = torch.eye(3)[:, None].expand(3, *POINTS.shape)
    value, pushed = field.pushforward(POINTS, axes)
    torch.testing.assert_close(pushed.T, gradient, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(value, field(POINTS))


def test_a_turn_is_a_rotation_about_its_axis_by_its_length() -> None:
    poses = Poses(TURNS, SCALES, SHIFTS)
    np.testing.assert_allclose(poses.rotation.detach(), TURNS, atol=1e-6)
    np.testing.assert_allclose(poses.scale.detach(), SCALES, rtol=1e-6)
    turn = np.array([[0.3, -0.2, 0.5], [0, 0, 1.0], [2.0, 0, 0]])
    with torch.no_grad():
        poses.turn.copy_(torch.as_tensor(turn))
    np.testing.assert_allclose(poses.rotation.detach(), Rotation.from_rotvec(turn).as_matrix() @ TURNS, atol=1e-6)


def test_taken_poses_stand_where_they_stood_and_move_on_their_own() -> None:
    poses = Poses(TURNS, SCALES, SHIFTS)
    with torch.no_grad():
        poses.turn.add_(0.2)
        poses.log_scale.add_(0.1)
    taken = poses.take(torch.tensor([2, 0]))
    for name in ("rotation", "scale", "shift"):
        torch.testing.assert_close(getattr(taken, name), getattr(poses, name)[[2, 0]])
    with torch.no_grad():
        taken.shift.add_(1.0)
    torch.testing.assert_close(poses.shift.detach(), torch.as_tensor(SHIFTS, dtype=torch.float32))
    assert all(parameter.requires_grad for parameter in taken.parameters())


@pytest.mark.parametrize("which", range(3))
@pytest.mark.parametrize("skip", [0, 2])
def test_what_was_found_stands_in_the_world_where_the_scan_is(which: int, skip: int) -> None:
    """The turned network in its frame, at world points, is the posed field at the scan's unit points."""
    scan = Frame([1e3, -20.0, 5.0], 40.0)
    made = network(skip)
    plain = Turned(made.at(CODES[which]), torch.as_tensor(TURNS[which]))
    frame = frame_through(scan, float(SCALES[which]), TURNS[which], SHIFTS[which])
    sdf = NeuralSDF(plain, frame, Box([-1, -1, -1], [1, 1, 1]))
    field = Posed(made, CODES, Poses(TURNS, SCALES, SHIFTS), which)
    with torch.no_grad():
        wanted = field(POINTS).numpy() * scan.scale
    assert np.ptp(wanted) > 1
    np.testing.assert_allclose(values(sdf, scan.to_world(POINTS.numpy())), wanted, atol=2e-3)


def test_a_turned_box_holds_what_the_box_held() -> None:
    box = Box([-0.2, -0.5, -0.9], [0.4, 0.5, 0.1])
    inside = np.random.default_rng(0).uniform(box.lower, box.upper, (500, 3))
    for rotation in TURNS:
        found = turned_box(box, rotation)
        assert found.contains(inside @ rotation).all(), "x = R p, so p = Rᵀ x"
    quarter = turned_box(box, Rotation.from_euler("z", 90, degrees=True).as_matrix())
    np.testing.assert_allclose(sorted(quarter.size), sorted(box.size))
    np.testing.assert_allclose(quarter.size, box.size[[1, 0, 2]])


def test_there_are_24_quarter_turns_and_the_first_is_none() -> None:
    found = quarter_turns()
    assert found.shape == (24, 3, 3)
    assert len({tuple(turn.round().astype(int).ravel()) for turn in found}) == 24
    np.testing.assert_array_equal(found @ found.transpose(0, 2, 1), np.broadcast_to(np.eye(3), found.shape))
    np.testing.assert_allclose(np.linalg.det(found), 1)
    np.testing.assert_array_equal(found[0], np.eye(3))
    products = {tuple((a @ b).round().astype(int).ravel()) for a in found for b in found}
    assert len(products) == 24, "a group"


def laid(evidence: Evidence, box: Box, rotation: Array) -> Array:
    """The scan's points as the first guess lays them into the shape's box."""
    poses = matched(evidence, [box], rotation[None])
    with torch.no_grad():
        found: Array = (evidence.points @ rotation.T) * float(poses.scale[0]) + poses.shift[0].numpy()
    return found


@pytest.mark.parametrize("turn", [0, 5, 17])
def test_a_whole_scan_s_box_is_laid_into_the_shape_s(turn: int) -> None:
    rotation = quarter_turns()[turn]
    target = Box([-0.8, -0.4, -0.2], [0.8, 0.4, 0.2])
    unit = directions(4000)
    shape = unit * target.size / 2 + target.centre
    points = ((shape - 0.1) / 1.7) @ rotation  # p = Rᵀ (x - t) / s
    evidence = Evidence(points.astype(np.float32), unit @ rotation, None)
    np.testing.assert_allclose(laid(evidence, target, rotation), shape, atol=0.02)


def test_of_a_scan_from_one_side_the_side_it_faces_is_laid_on() -> None:
    target = Box([-0.8, -0.8, -0.6], [0.8, 0.8, 0.6])
    unit = directions(8000)
    unit = unit[unit[:, 2] > 0.5]
    evidence = Evidence((unit * 0.5).astype(np.float32), unit, None)
    found = laid(evidence, target, np.eye(3))
    assert found[:, 2].max() == pytest.approx(0.6, abs=0.02), "its upper side is the shape's"
    assert np.abs(found[:, :2].max(axis=0) + found[:, :2].min(axis=0)).max() < 0.05, "sideways it is in the middle"
    bare = laid(Evidence(evidence.points, None, None), target, np.eye(3))
    assert bare[:, 2].mean() == pytest.approx(0, abs=0.1), "without normals the middle is all there is"
