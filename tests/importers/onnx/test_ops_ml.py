"""ai.onnx.ml operators against ONNX Runtime."""

import itertools

import numpy as np
import pytest
from fusec_testing.onnx_node import node_model, run_exported, run_fusec, run_runtime

ML = "ai.onnx.ml"
POSTS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"]


def _floats(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def _agree(op, inputs, attributes, *, outputs=1, version=3, export=True, tolerance=2e-5):
    model = node_model(op, inputs, domain=ML, opset=version, outputs=outputs, attributes=attributes)
    wanted = run_runtime(model, inputs)
    results = [run_fusec(model, inputs)]
    if export:
        results.append(run_exported(model, inputs))
    for got in results:
        assert len(got) == len(wanted)
        for ours, theirs in zip(got, wanted, strict=True):
            assert ours.shape == theirs.shape
            if theirs.dtype.kind == "f":
                assert ours.dtype == theirs.dtype
                np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)
            else:
                np.testing.assert_array_equal(ours, theirs)
    return wanted


def _ensemble(rng, trees, features, depth, ids, *, mode="BRANCH_LEQ", positive=False):
    """Full binary trees with random splits; every leaf tells one of `ids`."""
    nodes = {
        k: []
        for k in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids",
                  "falsenodeids", "missing_value_tracks_true")
    }  # fmt: skip
    leaf = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    for tree, number in itertools.product(range(trees), range(2 ** (depth + 1) - 1)):
        inner = number < 2**depth - 1
        row = (
            tree, number, int(rng.integers(features)), float(np.float32(rng.standard_normal())),
            mode if inner else "LEAF", 2 * number + 1 if inner else 0,
            2 * number + 2 if inner else 0, int(rng.integers(2)) if inner else 0,
        )  # fmt: skip
        for key, value in zip(nodes, row, strict=True):
            nodes[key].append(value)
        if not inner:
            weight = rng.uniform(0, 0.3) if positive else rng.standard_normal()
            told = (tree, number, int(rng.choice(ids)), float(np.float32(weight)))
            for key, value in zip(leaf, told, strict=True):
                leaf[key].append(value)
    return {f"nodes_{k}": v for k, v in nodes.items()}, leaf


def _for_all(rng, leaf, count):
    """Let every leaf tell every one of `count` targets."""
    leaf = {k: [v for v in row for _ in range(count)] for k, row in leaf.items()}
    leaf["ids"] = list(range(count)) * (len(leaf["ids"]) // count)
    leaf["weights"] = rng.uniform(0, 0.3, len(leaf["ids"])).astype(np.float32).tolist()
    return leaf


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("targets", [1, 3])
def test_tree_regressor(rng, aggregate, targets):
    nodes, leaf = _ensemble(rng, 4, 5, 3, range(targets))
    if targets > 1:
        leaf = _for_all(rng, leaf, targets)
    attributes = nodes | {f"target_{k}": v for k, v in leaf.items()}
    attributes |= {"n_targets": targets, "aggregate_function": aggregate}
    if targets > 1:
        attributes["base_values"] = [0.5, -1.0, 2.0]
    export = aggregate in ("SUM", "MAX") and targets > 1
    _agree("TreeEnsembleRegressor", [_floats(rng, 20, 5)], attributes, export=export)


@pytest.mark.parametrize("mode", ["LEQ", "LT", "GTE", "GT", "EQ", "NEQ"])
def test_tree_modes_and_missing_values(rng, mode):
    nodes, leaf = _ensemble(rng, 3, 4, 2, [0], mode=f"BRANCH_{mode}")
    x = rng.choice(np.array(nodes["nodes_values"], np.float32), (30, 4))
    x[::7] = np.nan
    attributes = nodes | {f"target_{k}": v for k, v in leaf.items()} | {"n_targets": 1}
    _agree("TreeEnsembleRegressor", [x], attributes, export=mode == "EQ")


@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize(
    ("labels", "ids", "positive"),
    [([0, 1], [0], False), ([0, 1], [0], True), ([3, 7], [1], False), ([0, 1], [0, 1], True),
     ([0, 1, 2], [0, 1, 2], False), ([5, 1, 9, 2], [0, 1, 2, 3], True)],
)  # fmt: skip
def test_tree_classifier(rng, post, labels, ids, positive):
    if post == "PROBIT" and (not positive or len(ids) == 1):
        pytest.skip("scores outside the range of probit")
    nodes, leaf = _ensemble(rng, 3, 5, 2, ids, positive=positive)
    if len(labels) == len(ids) == 2:  # ONNX Runtime leaves a score unwritten that no leaf tells
        leaf = _for_all(rng, leaf, 2)
    attributes = nodes | {f"class_{k}": v for k, v in leaf.items()}
    attributes |= {"classlabels_int64s": labels, "post_transform": post}
    x = _floats(rng, 30, 5)
    _agree("TreeEnsembleClassifier", [x], attributes, outputs=2, export=post == "LOGISTIC")


def test_tree_classifier_with_words(rng):
    nodes, leaf = _ensemble(rng, 3, 5, 2, [0, 1, 2])
    attributes = nodes | {f"class_{k}": v for k, v in leaf.items()}
    attributes["classlabels_strings"] = ["a", "bb", "c"]
    _agree("TreeEnsembleClassifier", [_floats(rng, 9, 5)], attributes, outputs=2, export=False)


@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize(("classes", "rows"), [(1, 2), (3, 3), (2, 2)])
def test_linear_classifier(rng, post, classes, rows):
    labels = list(range(rows))
    attributes = {
        "coefficients": (_floats(rng, classes * 4) / 10).tolist(),
        "intercepts": rng.uniform(0.3, 0.5, classes).tolist(),
        "classlabels_ints": labels,
        "post_transform": post,
    }
    if post == "PROBIT" and classes == 1:
        pytest.skip("ONNX Runtime leaves half of the result unwritten")
    x = rng.uniform(0, 1, (8, 4)).astype(np.float32)
    _agree("LinearClassifier", [x], attributes, outputs=2, export=post == "LOGISTIC")


@pytest.mark.parametrize("targets", [1, 3])
def test_linear_regressor(rng, targets):
    attributes = {
        "coefficients": _floats(rng, targets * 4).tolist(),
        "intercepts": _floats(rng, targets).tolist(),
        "targets": targets,
    }
    _agree("LinearRegressor", [_floats(rng, 8, 4)], attributes)


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_svm_regressor(rng, kernel):
    attributes = {
        "coefficients": _floats(rng, 6).tolist(), "kernel_params": [0.3, 0.1, 3.0],
        "kernel_type": kernel, "n_supports": 6, "rho": [0.2],
        "support_vectors": _floats(rng, 24).tolist(),
    }  # fmt: skip
    _agree("SVMRegressor", [_floats(rng, 8, 4)], attributes, tolerance=1e-4)


@pytest.mark.parametrize("kernel", ["LINEAR", "RBF"])
@pytest.mark.parametrize("sizes", [[3, 2], [2, 3, 4]])
@pytest.mark.parametrize("chances", [False, True])
def test_svm_classifier(rng, kernel, sizes, chances):
    count, pairs, total = len(sizes), len(sizes) * (len(sizes) - 1) // 2, sum(sizes)
    attributes = {
        "classlabels_ints": list(range(count)),
        "coefficients": _floats(rng, (count - 1) * total).tolist(),
        "kernel_params": [0.3, 0.1, 3.0], "kernel_type": kernel,
        "rho": _floats(rng, pairs).tolist(),
        "support_vectors": _floats(rng, total * 4).tolist(), "vectors_per_class": sizes,
    }  # fmt: skip
    if chances:
        attributes |= {
            "prob_a": (-np.abs(_floats(rng, pairs))).tolist(),
            "prob_b": _floats(rng, pairs).tolist(),
        }
    _agree(
        "SVMClassifier", [_floats(rng, 8, 4)], attributes, outputs=2, tolerance=1e-4,
        export=kernel == "RBF",
    )  # fmt: skip


@pytest.mark.parametrize("count", [2, 3])
def test_linear_svm_classifier(rng, count):
    attributes = {
        "classlabels_ints": list(range(count)), "coefficients": _floats(rng, 4 * count).tolist(),
        "kernel_type": "LINEAR", "rho": [0.1], "kernel_params": [0.0, 0.0, 0.0],
    }  # fmt: skip
    _agree("SVMClassifier", [_floats(rng, 8, 4)], attributes, outputs=2)


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizer(rng, norm):
    x = _floats(rng, 5, 4)
    x[2] = 0
    _agree("Normalizer", [x], {"norm": norm})


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("Scaler", {"offset": [1.0, 2.0, 3.0], "scale": [2.0, 0.5, 1.0]}),
        ("Scaler", {"offset": [1.0], "scale": [2.0]}),
        ("Binarizer", {"threshold": 0.3}),
        ("Imputer", {"imputed_value_floats": [9.0], "replaced_value_float": 1.0}),
        ("Imputer", {"imputed_value_floats": [7.0, 8.0, 9.0],
                     "replaced_value_float": float("nan")}),
    ],
)  # fmt: skip
def test_features(rng, op, attributes):
    x = _floats(rng, 4, 3)
    x[0, 1], x[2, 2], x[3, 0] = np.nan, np.nan, 1.0
    if op != "Imputer":
        x = np.nan_to_num(x)
    _agree(op, [x], attributes)


def test_feature_vectorizer_pads_and_cuts(rng):
    inputs = [_floats(rng, 3, 4), _floats(rng, 3, 2)]
    _agree("FeatureVectorizer", inputs, {"inputdimensions": [3, 4]})


def test_one_hot_and_array_feature_extractor(rng):
    _agree("OneHotEncoder", [np.array([[3, 1, 4]], np.int64)], {"cats_int64s": [1, 3, 5]})
    words = np.array(["b", "zz", "a"], dtype=object)
    _agree("OneHotEncoder", [words], {"cats_strings": ["a", "b"]}, export=False)
    _agree("ArrayFeatureExtractor", [_floats(rng, 3, 5), np.array([[4, 0]], np.int64)], {})
    _agree("ArrayFeatureExtractor", [_floats(rng, 5), np.array([4], np.int64)], {})


@pytest.mark.parametrize(
    ("x", "attributes"),
    [
        (np.array([[3, 8], [5, 3]], np.int64),
         {"keys_int64s": [5, 3, 3], "values_floats": [0.5, 1.5, 2.5], "default_float": 9.0}),
        (np.array([1.5, np.nan, 2.0, 0.0], np.float32),
         {"keys_floats": [float("nan"), 1.5, 0.0], "values_int64s": [7, 8, 9]}),
        (np.array(["a", "b", "?"], dtype=object),
         {"keys_strings": ["a", "b"], "values_int64s": [4, 5]}),
        (np.array([4, 5, 6], np.int64), {"keys_int64s": [4, 5], "values_strings": ["a", "b"]}),
    ],
)  # fmt: skip
def test_label_encoder(x, attributes):
    words = x.dtype == object or "values_strings" in attributes
    _agree("LabelEncoder", [x], attributes, version=2, export=not words)


def test_label_encoder_finds_nan_from_version_4():
    x = np.array([1.5, np.nan, 2.0], np.float32)
    attributes = {
        "keys_tensor": np.array([np.nan, 1.5], np.float32),
        "values_tensor": np.array([7, 8], np.int64),
        "default_tensor": np.array([3], np.int64),
    }
    _agree("LabelEncoder", [x], attributes, version=4)


def test_category_mapper():
    attributes = {"cats_int64s": [4, 5], "cats_strings": ["a", "b"]}
    _agree("CategoryMapper", [np.array([4, 9], np.int64)], attributes, export=False)
    _agree("CategoryMapper", [np.array(["b", "q"], dtype=object)], attributes, export=False)


def test_zip_map(rng):
    x = _floats(rng, 2, 3)
    model = node_model("ZipMap", [x], domain=ML, attributes={"classlabels_int64s": [4, 2, 9]})
    (rows,) = run_fusec(model, [x])
    assert [list(row) for row in rows] == [[4, 2, 9]] * 2
    np.testing.assert_array_equal([list(row.values()) for row in rows], x.astype(np.float64))


def test_weight_like_attributes_are_weights(rng):
    """Two classifiers that differ in coefficients only have one raw structure."""
    from fusec.importers.onnx.load import load_model
    from fusec.importers.onnx.structure import structure

    def found(labels):
        attributes = {
            "coefficients": _floats(rng, 12).tolist(),
            "intercepts": _floats(rng, 3).tolist(),
            "classlabels_ints": labels,
        }
        model = node_model(
            "LinearClassifier", [_floats(rng, 2, 4)], domain=ML, outputs=2, attributes=attributes
        )
        return structure(load_model(model))

    first, second, other = found([0, 1, 2]), found([0, 1, 2]), found([0, 1, 5])
    assert first.key == second.key != other.key
    assert [w.array().shape for w in first.weights] == [(12,), (3,)]
    assert not np.array_equal(first.weights[0].array(), second.weights[0].array())
