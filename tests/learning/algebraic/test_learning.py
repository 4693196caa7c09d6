"""Learning from real data: invariants, the estimator, the tutorial's form, users' mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any, NamedTuple

import numpy as np
import pytest

from learning import LearningError, ModelError, UnfitData
from learning.algebraic import AlgebraicClassifier, train_alma
from learning.algebraic.atoms import rows_of, unpack
from learning.algebraic.course import Course, embedded
from learning.algebraic.embedding import ImageEmbedding, TableEmbedding, shifted
from learning.algebraic.errors import ContradictionError
from learning.algebraic.model import AlgebraicModel, from_arrays, to_arrays, violations
from loaders import load
from loaders.rows import Array, Labels

from .test_algebra import Spied


class Digits(NamedTuple):
    """As the estimator takes them."""

    images: Array
    labels: Labels


def digits(split: str, rows: int) -> Digits:
    loaded = load("mnist", split, rows)
    return Digits(loaded.arrays["image"], loaded.labels)


@pytest.fixture(scope="module")
def train() -> Digits:
    return digits("train", 1000)


@pytest.fixture(scope="module")
def test() -> Digits:
    return digits("test", 2000)


def test_it_is_a_scikit_learn_estimator() -> None:
    from sklearn.utils.estimator_checks import check_estimator

    check_estimator(AlgebraicClassifier(batches=8))


def test_the_invariants_hold_after_every_batch_of_mnist(
    train: Digits, monkeypatch: pytest.MonkeyPatch
) -> None:
    spied = Spied(monkeypatch)  # which sees that crossing leaves every trace as it was
    embedding = ImageEmbedding(28, 28)
    terms = embedded(embedding, 10, train.images)
    bits = unpack(terms, embedding.constants + 10).astype(bool)
    course = Course(embedding, 10, seed=3)
    crossing = course._crossing
    enforce = crossing.enforce

    def checked(duples: Any) -> Any:
        stored = crossing._stored_lefts, crossing._stored_rights
        counts = enforce(duples)
        atoms = unpack(crossing.master, crossing.constants).astype(bool)
        rights = unpack(duples.rights, crossing.constants).astype(bool)
        meets = atoms.astype(np.float32) @ rights.T.astype(np.float32) > 0
        below = atoms[:, embedding.constants :]
        missed = below.T.astype(np.float32) @ ~meets > 0  # class, term: L <= R does not hold
        assert not missed[tuple(duples.positives.T)].any()
        assert missed[tuple(duples.negatives.T)].all()
        for left, right in zip(*stored, strict=True):
            discriminated = (crossing.master & left).any(axis=1)
            assert (crossing.master[discriminated] & right).any(axis=1).all()
        return counts

    monkeypatch.setattr(crossing, "enforce", checked)
    for batch in course.learn(terms, train.labels, 4):
        assert batch.atoms == len(crossing.master)
        assert batch.union == len(crossing.union)
    assert spied.calls == 4
    model = course.model(terms, train.labels)
    made = rows_of(model.atoms, crossing.constants)
    assert not bits[:, embedding.constants :].any()
    for class_ in range(10):
        mine = model.of_class(class_)
        rows = unpack(made[mine], crossing.constants).astype(np.float32)
        missed = (rows @ bits[train.labels == class_].T.astype(np.float32) == 0).sum(axis=1)
        assert (missed[model.strict[mine]] == 0).all()


def test_it_learns_digits(train: Digits, test: Digits) -> None:
    learner = AlgebraicClassifier(batches=25).fit(train.images, train.labels)
    assert learner.score(test.images, test.labels) > 0.79
    counted = violations(learner.embedding_, 10, learner.model_.atoms, train.images, train.labels)
    assert (counted == learner.model_.violations).all()  # by numpy, and by the kernels


def test_one_digit_against_the_rest(train: Digits, test: Digits) -> None:
    learner = AlgebraicClassifier(batches=20, target_digit=0).fit(train.images, train.labels)
    assert learner.classes_.tolist() == [False, True]
    assert learner.score(test.images, test.labels == 0) > 0.97
    assert learner.score(test.images, test.labels) > 0.97
    with pytest.raises(ValueError, match="target_digit 42 is none of the labels"):
        AlgebraicClassifier(target_digit=42).fit(train.images, train.labels)
    assert learner.decision_function(test.images).shape == (2000,)


def test_partial_fit_goes_on(train: Digits, test: Digits) -> None:
    learner = AlgebraicClassifier(batches=6)
    for part in range(3):
        rows = slice(300 * part, 300 * (part + 1))
        learner.partial_fit(train.images[rows], train.labels[rows], classes=range(10))
    assert [batch.number for batch in learner.history_] == list(range(18))
    assert learner.score(test.images, test.labels) > 0.75
    with pytest.raises(ValueError, match="classes must be passed"):
        AlgebraicClassifier().partial_fit(train.images, train.labels)
    with pytest.raises(ValueError, match="labels that `classes` did not name"):
        learner.partial_fit(train.images[:5], [77, 1, 2, 3, 4])


def test_equal_seeds_make_equal_models_and_the_order_of_atoms_is_no_matter(
    train: Digits, test: Digits
) -> None:
    def learned(seed: int) -> AlgebraicModel:
        fitted = AlgebraicClassifier(batches=4, random_state=seed).fit(train.images, train.labels)
        made: AlgebraicModel = fitted.model_
        return made

    model = learned(1)
    assert model.atoms.tobytes() == learned(1).atoms.tobytes()
    assert model.atoms.tobytes() != learned(2).atoms.tobytes()
    order = np.random.default_rng(0).permutation(len(model.atoms))
    mixed = AlgebraicModel(
        model.embedding, 10, model.atoms[order], model.violations[order], model.epochs[order]
    )
    assert (mixed.misses(test.images) == model.misses(test.images)).all()


def test_tables_of_numbers_and_names() -> None:
    from sklearn.datasets import load_digits, load_wine

    digits, labels = load_digits(return_X_y=True)
    learner = AlgebraicClassifier(batches=20).fit(digits[:1200], labels[:1200])
    assert learner.score(digits[1200:], labels[1200:]) > 0.88
    wine, kinds = load_wine(return_X_y=True)
    learner = AlgebraicClassifier(batches=20).fit(wine[::2], kinds[::2])
    assert learner.score(wine[1::2], kinds[1::2]) > 0.85
    colours = np.array([["red", 1.5], ["blue", 2.5], ["red", 3.5], ["green", 1.0]], object)
    learner = AlgebraicClassifier(batches=10).fit(colours, ["a", "b", "a", "b"])
    assert learner.predict(np.array([["red", 9.0], ["blue", 0.0]], object)).tolist() == ["a", "b"]
    assert learner.embedding_.name(0) == "x0 = red"
    assert any("x0 = red" in rule for rule in learner.rules("a"))
    assert learner.embedding_.name(learner.embedding_.constants - 1).startswith("x1 <= ")


def test_several_grey_levels_and_other_sizes() -> None:
    from sklearn.datasets import load_digits

    digits, labels = load_digits(return_X_y=True)
    images = (digits.reshape(-1, 8, 8) * 15.9).astype(np.uint8)[:, :, :6]
    learner = AlgebraicClassifier(batches=20, levels=3, shifts=1).fit(images[:1200], labels[:1200])
    assert learner.embedding_.constants == 8 * 6 * 3 * 2
    assert learner.score(images[1200:], labels[1200:]) > 0.8
    again = from_arrays(to_arrays(learner.model_))
    assert (again.predict(images) == learner.model_.predict(images)).all()


def test_shifted_images_lose_what_leaves_and_gain_black() -> None:
    image = np.arange(1, 7, dtype=np.uint8).reshape(1, 2, 3)
    down, up, right, left = shifted(image, 1)
    assert down.tolist() == [[[0, 0, 0], [1, 2, 3]]]
    assert up.tolist() == [[[4, 5, 6], [0, 0, 0]]]
    assert right.tolist() == [[[0, 1, 2], [0, 4, 5]]]
    assert left.tolist() == [[[2, 3, 0], [5, 6, 0]]]
    assert len(shifted(image, 3)) == 6  # it is two pixels high


def test_contradictory_rows_are_named(train: Digits) -> None:
    images = train.images[:50].copy()
    images[31] = images[4]
    labels = train.labels[:50].copy()
    labels[31] = (labels[4] + 1) % 10
    with pytest.raises(ContradictionError, match="rows 4 and 31 .* of classes"):
        AlgebraicClassifier().fit(images, labels)
    assert issubclass(ContradictionError, LearningError)


def test_contradictions_between_calls_are_named(train: Digits) -> None:
    learner = AlgebraicClassifier(batches=2)
    learner.partial_fit(train.images[:40], train.labels[:40], classes=range(10))
    with pytest.raises(ContradictionError, match="rows 0 and 40 .* of classes"):
        learner.partial_fit(train.images[:1], [(train.labels[0] + 1) % 10])


def test_names_that_were_not_there_before_are_one_more_name() -> None:
    random = np.random.default_rng(0)
    names = np.array(list("abcdefgh"), object)
    first, second = names[random.integers(0, 4, (40, 3))], names[random.integers(0, 8, (40, 3))]
    learner = AlgebraicClassifier(batches=5)
    learner.partial_fit(first, first[:, 0] == "a", classes=[False, True])
    learner.partial_fit(second, second[:, 0] == "a")
    assert learner.score(second, second[:, 0] == "a") > 0.9
    assert learner.embedding_.name(4) == "x0 = a name never seen"


def test_more_than_255_classes_can_be_sent() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 2, (600, 12, 12)).astype(np.uint8) * 255
    labels = np.arange(600) % 300
    model = AlgebraicClassifier(batches=1).fit(images, labels).model_
    assert len(from_arrays(to_arrays(model)).atoms) == len(model.atoms) > 0


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"batches": 0}, "batches is 0"),
        ({"levels": -2}, "levels is -2"),
        ({"shifts": 9}, "shifts is 9"),
        ({"shifts": -1}, "shifts is -1"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
        ({"categorical": [7]}, "there are 2 columns"),
    ],
)
def test_parameters_that_can_not_be_are_refused(parameters: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        AlgebraicClassifier(**parameters).fit(np.eye(2), [0, 1])


def test_images_that_are_not_grey_from_0_to_255_are_refused(train: Digits) -> None:
    with pytest.raises(ValueError, match="images from 0 to 1; grey goes from 0 to 255"):
        AlgebraicClassifier().fit(train.images[:20] / 255, train.labels[:20])


def test_a_failed_fit_leaves_nothing_behind(train: Digits) -> None:
    from sklearn.exceptions import NotFittedError

    learner = AlgebraicClassifier(batches=2).fit(train.images[:50], train.labels[:50])
    with pytest.raises(ContradictionError):
        learner.fit(np.ones((4, 2)) * [[1, 2]] * np.array([[1], [1], [2], [2]]), [0, 1, 0, 1])
    with pytest.raises(NotFittedError):
        learner.predict(train.images)


def test_rows_of_nothing_known_are_named() -> None:
    with pytest.raises(UnfitData, match="row 0 .* has no value that the model knows"):
        AlgebraicClassifier().fit(np.ones((4, 2)), [0, 1, 0, 1])


def test_numbers_that_thresholds_would_not_tell_apart_get_more_of_them() -> None:
    table = np.array([[0.0], [1.0], [1.0 + 1e-12], [2.0]])
    labels = np.array([0, 0, 1, 0])
    embedding = TableEmbedding.of(table, labels, levels=1)
    assert len({row.tobytes() for row in embedding.bits(table)}) >= 3
    assert AlgebraicClassifier(levels=1).fit(table, labels).score(table, labels) == 1


def test_images_of_another_size_are_refused_in_words(train: Digits) -> None:
    learner = AlgebraicClassifier(batches=1).fit(train.images[:50], train.labels[:50])
    with pytest.raises(ModelError, match="20 x 20 pixels; the model is for 28 x 28"):
        learner.predict(np.zeros((1, 20, 20), np.uint8))


def test_the_form_of_the_tutorial(train: Digits) -> None:
    made = train_alma(train.images[:200].reshape(200, -1).tolist(), train.labels[:200].tolist())
    assert made["vTerm"] == [1568, 1569]
    assert set(made) == {"vTerm", "1568", "1569"}
    assert json.loads(json.dumps(made)) == made
    terms = ImageEmbedding(28, 28).bits(train.images[:200])
    for constant, mine in (("1569", train.labels[:200] == 0), ("1568", train.labels[:200] != 0)):
        assert made[constant]
        for atom in made[constant]:
            ucs = atom["atom_ucs"]
            assert int(constant) in ucs
            assert ucs == sorted(ucs)
            assert atom["atom_gen"] == len(ucs) - 1
            assert 0 <= atom["atom_epoch"] < 50
            assert terms[mine][:, [c for c in ucs if c < 1568]].any(axis=1).all()
    with pytest.raises(ValueError, match="783 pixels are no square"):
        train_alma(np.zeros((2, 783)), [0, 1])


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import learning.algebraic", ("numba", "sklearn", "numpy")),
        ("from learning import merging; merging.create('union', {})", ("numba", "torch")),
        ("from learning import create; create('algebraic', {})", ("numba", "torch")),
        ("from learning.algebraic.model import from_arrays", ("numba", "sklearn")),
    ],
)
def test_what_is_not_used_is_not_imported(code: str, absent: tuple[str, ...]) -> None:
    if code == "import learning.algebraic":
        absent = ("numba", "sklearn")
    check = f"import sys; {code}; print([m for m in {absent!r} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_prediction_needs_no_compiler(train: Digits, tmp_path: Any) -> None:
    learner = AlgebraicClassifier(batches=2).fit(train.images[:100], train.labels[:100])
    arrays: Any = to_arrays(learner.model_)
    np.savez(tmp_path / "model.npz", **arrays)
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "import numpy as np\n"
        "from learning import create\n"
        "from loaders import ArraySource, Field, Form, Numbered, Rows\n"
        f"model = dict(np.load({str(tmp_path / 'model.npz')!r}))\n"
        "form = Form({'image': Field('uint8', (28, 28))}, Numbered(10))\n"
        "rows = {'image': np.zeros((3, 28, 28), np.uint8)}, np.zeros(3, np.int64)\n"
        "source = ArraySource('made', form, {'all': rows})\n"
        "print(len(create('algebraic', {}).predict(model, Rows(source, 'all'))))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout == "3\n", ran.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": np.zeros(2)}, "'image' is missing, or not"),
        ({"sizes": np.zeros(3, np.uint8)}, "don't fit together"),
        ({"violations": np.zeros(1, np.uint16)}, "counts are not of its atoms"),
        ({"thresholds": np.zeros(0)}, "images of 28 x 28, 10 classes"),
    ],
)
def test_arrays_that_are_no_model_are_told_in_words(
    train: Digits, change: dict[str, Any], told: str
) -> None:
    learner = AlgebraicClassifier(batches=1).fit(train.images[:50], train.labels[:50])
    with pytest.raises(ModelError, match=told):
        from_arrays({**to_arrays(learner.model_), **change})
