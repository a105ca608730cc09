#!/usr/bin/env python3
"""Compares real tokenizers with the reference: check_tokenizers.py [--speed] [--text FILE.gz]... TOKENIZER...

TOKENIZER is a tokenizer.json, a tokenizer.model, or a folder with either, or with GPT-2's
encoder.json and vocab.bpe. For each: the ids and the decoded text of 20,000 generated lines, the ids
of every code point alone and within a text, the time for the texts and for one megabyte of one
character; with --speed only the times. A tokenizer.model is compared with the sentencepiece package,
and the tokenizer.json that transformers makes of a BPE one with the tokenizers package, which is the
reference for all the others.

Needs Python's tokenizers, and for a tokenizer.model transformers, sentencepiece and protobuf.
MORA_BUILD names the build folder with mora-tokenize (default: build). Exit code 1 if anything
differs but characters that are younger than the Unicode of one side; they are listed.
"""
import argparse
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unicodedata

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests" / "golden"))
import make_tokenizer_goldens as goldens  # noqa: E402

TOOL = pathlib.Path(os.environ.get("MORA_BUILD", ROOT / "build")) / "mora-tokenize"
LINES = 20000
MEGABYTE = 1_000_000
RUNS = ["a", " ", "7", "\n", "é", "中", "😀"]


def ours(tokenizer, mode, texts):
    data = b"".join(b"%d\n%b" % (len(t), t) for t in (text.encode() for text in texts))
    out = subprocess.run([TOOL, tokenizer, mode], input=data, stdout=subprocess.PIPE, check=True).stdout
    if mode == "encode":
        return [[int(i) for i in row.split()] for row in out.decode().split("\n")[:-1]]
    decoded, at = [], 0
    while at < len(out):
        newline = out.index(b"\n", at)
        end = newline + 1 + int(out[at:newline])
        decoded.append(out[newline + 1:end].decode())
        at = end
    return decoded


def our_time(tokenizer, text):
    out = subprocess.run([TOOL, tokenizer, "time"], input=text.encode(), stdout=subprocess.PIPE, check=True)
    seconds, count = out.stdout.split()
    return float(seconds), int(count)


def reference_time(reference, text):
    best = float("inf")
    for _ in range(2):  # as mora-tokenize does it
        begin = time.perf_counter()
        count = len(reference.encode([text])[0])
        best = min(best, time.perf_counter() - begin)
    return best, count


def is_bpe(file):
    from sentencepiece import sentencepiece_model_pb2 as proto
    model = proto.ModelProto.FromString(file.read_bytes())
    return model.trainer_spec.model_type == proto.TrainerSpec.BPE


def gpt2_json(folder, target):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    vocabulary = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
    rows = (folder / "vocab.bpe").read_text(encoding="utf-8").split("\n")
    merges = [tuple(row.split(" ")) for row in rows if row and not row.startswith("#version")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.save(str(target))


def cases(path, work):
    """Pairs of a tokenizer for our tool and its reference."""
    from tokenizers import Tokenizer
    path = pathlib.Path(path)
    files = [path] if path.is_file() else [path / "tokenizer.json", path / "tokenizer.model"]
    if path.is_dir() and (path / "encoder.json").exists():
        files = [work / "gpt2.json"]
        gpt2_json(path, files[0])
    elif path.is_dir() and not any(f.exists() for f in files):
        files = sorted(path.glob("*.json"))
    for file in files:
        if not file.exists():
            continue
        if file.suffix != ".model":
            yield file, goldens.HuggingFace(Tokenizer.from_file(str(file)))
            continue
        alone = work / "alone"  # the package knows nothing of tokens that files beside it add
        alone.mkdir()
        (alone / "tokenizer.model").write_bytes(file.read_bytes())
        yield alone / "tokenizer.model", goldens.SentencePiece(file)
        if not is_bpe(file):
            continue
        import transformers
        folder = work / "converted"
        folder.mkdir()
        (folder / "tokenizer.model").write_bytes(file.read_bytes())
        transformers.LlamaTokenizer.from_pretrained(folder).save_pretrained(folder)
        yield folder / "tokenizer.json", goldens.HuggingFace(Tokenizer.from_file(str(folder / "tokenizer.json")))


def compare(file, reference):
    lines = [goldens.line(seed) for seed in range(LINES)]
    expected = reference.encode(lines)
    found = ours(file, "encode", lines)
    wrong = [i for i in range(LINES) if expected[i] != found[i]]
    decoded = reference.decode(expected)
    wrong_text = [i for i, text in enumerate(ours(file, "decode", lines)) if text != decoded[i]]
    print(f"  {LINES} lines, {sum(map(len, expected))} ids: {len(wrong)} differ; decoded: {len(wrong_text)} differ")
    for i in (wrong + wrong_text)[:3]:
        print(f"    line {i}: {lines[i]!r}\n      expected {expected[i]}\n      found    {found[i]}")

    failed = bool(wrong or wrong_text)
    characters = [chr(c) for c in goldens.scalars()]
    for name, form in (("alone", "{0}"), ("in a text", "a{0}1 {0}{0} b")):
        texts = [form.format(c) for c in characters]
        pairs = zip(characters, reference.encode(texts), ours(file, "encode", texts))
        differ = [c for c, a, b in pairs if a != b]
        old = [c for c in differ if unicodedata.category(c) != "Cn"]
        print(f"  {len(characters)} code points {name}: {len(differ)} differ, {len(old)} of them in Unicode "
              f"{unicodedata.unidata_version}" + (f": {[hex(ord(c)) for c in old[:8]]}" if old else ""))
        failed = failed or bool(old)
    return failed


def measure(file, reference, texts):
    for name, text in texts:
        size = len(text.encode()) / MEGABYTE
        (mine, count), (theirs, expected) = our_time(file, text), reference_time(reference, text)
        same = "" if count == expected else f"  COUNT DIFFERS: {count} ids, expected {expected}"
        print(f"  {name} ({size:.2f} MB): {mine:.3f} s, {size / mine:.1f} MB/s; "
              f"reference {theirs:.3f} s, {size / theirs:.1f} MB/s{same}")
        if same:
            return True
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--speed", action="store_true", help="measure only")
    parser.add_argument("--text", action="append", default=[], help="a text to measure with, may be .gz")
    parser.add_argument("tokenizer", nargs="+")
    arguments = parser.parse_args()
    if not TOOL.exists():
        sys.exit(f"check_tokenizers.py: {TOOL} is missing; build the target mora-tokenize")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = []
    for file in arguments.text:
        opened = gzip.open(file, "rb") if file.endswith(".gz") else open(file, "rb")
        with opened as stream:
            texts.append((pathlib.Path(file).name, stream.read(4 * MEGABYTE).decode(errors="replace")))
    texts += [(f"one MB of {c!r}", c * (MEGABYTE // len(c.encode()))) for c in RUNS]
    failed = False
    for path in arguments.tokenizer:
        with tempfile.TemporaryDirectory() as work:
            for file, reference in cases(path, pathlib.Path(work)):
                print(f"{path}: {file.name}", flush=True)
                failed = (not arguments.speed and compare(file, reference)) or failed
                failed = measure(file, reference, texts) or failed
    print("FAILED" if failed else "OK")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
