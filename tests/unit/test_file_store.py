"""What documents mean: checked against the real confd where it has an opinion."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest

from confpy.errors import StoreError, UsageError
from confpy.keys.tree import KeyTree
from confpy.keys.view import View
from confpy.stores.document import leaves
from confpy.stores.file import FileStore

VECTORS = Path(__file__).parent.parent / "golden" / "vectors.jsonl"


def recorded():
    for line in VECTORS.read_text().split("\n"):
        if line and (vector := json.loads(line))["area"] == "file-backend":
            yield pytest.param(vector, id=vector["id"])


@pytest.mark.parametrize("vector", list(recorded()))
def test_the_keys_are_those_of_confd(vector, tmp_path):
    files = vector.get("files", {})
    if "yaml" in vector or "yaml_b64" in vector:
        content = base64.b64decode(vector["yaml_b64"]) if "yaml_b64" in vector else vector["yaml"].encode()
        (tmp_path / "data.yaml").write_bytes(content)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    arguments = [str(tmp_path / name) for name in vector.get("file_args", ["data.yaml"])]
    store = FileStore(arguments, vector.get("filter", "*"))
    if "pairs" in vector:
        assert store.read(["/"]).listings["/"].keys == vector["pairs"]
    elif vector["expect_error"].startswith("panic"):
        assert store.read(["/"]).listings["/"].keys
    else:
        with pytest.raises(StoreError) as caught:
            store.read(["/"])
        assert caught.value.where == {"file": arguments[0], "line": 1}


def keys(text: str, name: str = "x.yaml") -> dict[str, str]:
    return dict(leaves(name, text.encode()))


@pytest.mark.parametrize(
    ("written", "printed"),
    list({
        "42": "42", "-42": "-42", "+42": "42", "0755": "493", "-017": "-15", "0o17": "15", "0o8": "0o8", "0x1F": "31",
        "0X1f": "31", "-0x10": "-16", "0x": "0x", "0b101": "5", "-0b11": "-3", "0b2": "0b2", "1_000": "1000",
        "_1": "_1", "00": "0", "08": "8", "9223372036854775807": "9223372036854775807",
        "1.50": "1.5", "1.": "1.", ".5": "0.5", "-2.5": "-2.5", "1e3": "1e3", "1.5e3": "1.5e3", "1.0e+3": "1000",
        "1e21": "1e21", "1.0e+999": "1.0e+999", "18446744073709551616": "18446744073709552000", "-0.0": "-0",
        ".": ".", "..": "..", "+": "+", "1.2.3": "1.2.3", ".inf": "+Inf", "-.INF": "-Inf", ".NaN": "NaN",
        "yes": "true", "on": "true", "y": "true", "True": "true", "n": "false", "OFF": "false", "tRue": "tRue",
        "2001-01-01": "2001-01-01", "1:30": "1:30", "190:20:30": "190:20:30", "=": "=",
        '"yes"': "yes", "'0755'": "0755", '""': "", "!!str 0755": "0755", "!!int '42'": "42", "!!float 3": "3",
        "!!binary aGVsbG8=": "hello", "!!binary /w==": "\udcff", "!custom 42": "42",
        "|\n  two\n  lines\n": "two\nlines\n",
    }.items()),
)  # fmt: skip
def test_a_scalar_is_printed_as_go_prints_it(written, printed):
    assert keys(f"a: {written}") == {"/a": printed}


@pytest.mark.parametrize("written", ["", "~", "null", "NULL", "[]", "{}", "18446744073709551615", "[~, {b: }]"])
def test_a_null_an_empty_collection_and_an_unsigned_integer_have_no_key(written):
    assert keys(f"a: {written}") == {}


def test_keys_that_are_no_text_are_taken_as_they_are_written():
    document = "8080: a\non: b\n~: c\n1.50: d\n0755: e\n2001-01-01: f\n!!binary aGk=: g"
    assert keys(document) == {
        "/8080": "a", "/on": "b", "/~": "c", "/1.50": "d", "/0755": "e", "/2001-01-01": "f", "/hi": "g",
    }  # fmt: skip


def test_what_a_mapping_says_itself_wins_over_what_it_merges():
    document = "a: &a {x: 1, y: 1}\nb: &b {x: 2, z: 2}\nc:\n  y: 3\n  <<: [*a, *b]\n"
    found = keys(document)
    assert {key: value for key, value in found.items() if key.startswith("/c")} == {
        "/c/x": "1",
        "/c/z": "2",
        "/c/y": "3",
    }


def test_of_two_equal_keys_the_last_one_wins():
    assert keys("a: 1\nb: 2\na: 3") == {"/b": "2", "/a": "3"}
    assert keys('{"a": 1, "a": 2}') == {"/a": "2"}
    assert keys("a/b: 1\na//b: 2") == {"/a/b": "2"}


def test_only_the_first_document_counts_even_before_a_broken_one():
    assert keys("a: 1\n---\n[") == {"/a": "1"}


@pytest.mark.parametrize("document", ["", "# nothing\n", "---\n", "~", "\ufeff", "{}"])
def test_a_document_without_content_has_no_keys(document):
    assert keys(document) == {}


def test_json_may_be_indented_with_tabs_and_name_characters_by_pairs_of_surrogates():
    assert keys('{\n\t"a": "\\ud83d\\ude00",\n\t"b": "\\ud800"\n}') == {"/a": "😀", "/b": "\ufffd"}


def test_a_flow_mapping_is_not_mistaken_for_json():
    assert keys("{a: yes, b: [1, on]}") == {"/a": "true", "/b/0": "1", "/b/1": "true"}


def test_a_document_in_utf_16_is_read():
    assert dict(leaves("x", "a: ć".encode("utf-16"))) == {"/a": "ć"}


def test_toml_is_read_by_its_own_rules():
    document = 'on = true\nn = 0o17\nf = 1e3\nd = 2001-01-01\ninf = inf\n[t]\n"a/b" = ["x", {y = ""}]\n'
    assert keys(document, "x.toml") == {
        "/on": "true", "/n": "15", "/f": "1000", "/d": "2001-01-01", "/inf": "+Inf",
        "/t/a/b/0": "x", "/t/a/b/1/y": "",
    }  # fmt: skip


BROKEN = {
    "unclosed": ("x.yaml", "a: 1\nb: [1, 2\n", 3),
    "tab": ("x.yaml", "a:\n\tb: 1\n", 2),
    "a list": ("x.yaml", "- a\n", 1),
    "a scalar": ("x.yaml", "only text\n", 1),
    "unknown alias": ("x.yaml", "a: 1\nb: *no\n", 2),
    "alias of itself": ("x.yaml", "a: &a\n  b: *a\n", 2),
    "list as a key": ("x.yaml", "a: 1\n? [x]\n: 1\n", 2),
    "bad merge": ("x.yaml", "a: 1\n<<: 2\n", 2),
    "bad base64": ("x.yaml", "a: !!binary '?'\n", 1),
    "bad integer": ("x.yaml", "a: !!int many\n", 1),
    "broken JSON": ("x.json", '{\n"a": 1,\n"b"\n:::\n}', 4),
    "too deep": ("x.yaml", "a: " + "[" * 200_000, 1),
    "too deep JSON": ("x.json", '{"a": ' + "[" * 200_000 + "]" * 200_000 + "}", 1),
    "broken TOML": ("x.toml", "a = 1\nb = \n", 2),
    "duplicate in TOML": ("x.toml", "a = 1\na = 2\n", 2),
}


@pytest.mark.parametrize(("name", "document", "line"), list(BROKEN.values()), ids=list(BROKEN))
def test_a_malformed_document_is_an_error_that_names_file_and_line(name, document, line):
    with pytest.raises(StoreError) as caught:
        keys(document, name)
    assert caught.value.where["file"] == name
    assert caught.value.where["line"] == line


def test_aliases_of_aliases_do_not_multiply_without_end():
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 12))
    with pytest.raises(StoreError, match="more than"):
        keys("l0: &l0 x\n" + levels)


def test_an_error_never_shows_a_value():
    with pytest.raises(StoreError) as caught:
        keys('password: "s3cret\nother: s3cret')
    assert "s3cret" not in str(caught.value)


def test_names_with_a_dot_in_front_are_not_read_from_a_folder(tmp_path):
    (tmp_path / "..2024").mkdir()
    (tmp_path / "..2024" / "a.yaml").write_text("a: 1")
    (tmp_path / "..data").symlink_to("..2024")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    (tmp_path / ".b.yaml.swp").write_text("]")
    assert FileStore([str(tmp_path)]).read(["/"]).listings["/"].keys == {"/a": "1"}


def test_files_of_a_folder_are_read_in_lexical_order_and_link_loops_end(tmp_path):
    for name, text in {"b": "x: b\nb: 1", "a/z": "x: a\na: 1", "c/d/e": "e: 1"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "c" / "loop").symlink_to(tmp_path)
    assert FileStore([str(tmp_path)]).read(["/"]).listings["/"].keys == {"/a": "1", "/b": "1", "/e": "1", "/x": "b"}


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(StoreError) as caught:
        FileStore([str(tmp_path / "none.yaml")]).read(["/"])
    assert caught.value.where == {"file": str(tmp_path / "none.yaml")}


def test_a_fifo_that_nobody_writes_to_is_refused(tmp_path):
    os.mkfifo(tmp_path / "keys.yaml")
    with pytest.raises(StoreError, match="no regular file") as caught:
        FileStore([str(tmp_path)]).read(["/"])
    assert caught.value.where["file"] == str(tmp_path / "keys.yaml")


def test_a_pipe_of_the_shell_is_read():
    reader, writer = os.pipe()
    os.write(writer, b"a: 1")
    os.close(writer)
    try:
        assert FileStore([f"/dev/fd/{reader}"]).read(["/"]).listings["/"].keys == {"/a": "1"}
    finally:
        os.close(reader)


def test_no_file_and_a_malformed_filter_are_usage_errors():
    with pytest.raises(UsageError):
        FileStore([])
    with pytest.raises(UsageError):
        FileStore(["x"], "[")


def test_keys_of_a_document_reach_a_template(tmp_path):
    (tmp_path / "x").write_text("services:\n  web: {a: 10.0.0.1, b: 10.0.0.2}\n")
    tree = KeyTree()
    tree.replace("/", FileStore([str(tmp_path / "x")]).read(["/"]).listings["/"].keys)
    assert View(tree, ["/"]).getvs("/services/web/*") == ["10.0.0.1", "10.0.0.2"]
