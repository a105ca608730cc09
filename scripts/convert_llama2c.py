#!/usr/bin/env python3
"""Converts a llama2.c checkpoint (version 0) to a Hugging Face folder.

    convert_llama2c.py CHECKPOINT_DIR OUT_DIR

CHECKPOINT_DIR holds one model (*.bin) and its tokenizer (tok*.bin). OUT_DIR, which must not exist
yet and lies outside this repository, receives config.json, model.safetensors and tokenizer.model.

llama2.c rotates neighbouring pairs of a head's rows, Hugging Face rows half a head apart: the rows
of q and k are reordered so that both compute the same. Needs Python's standard library only.
"""

import array
import json
import pathlib
import shutil
import struct
import sys
import tempfile

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
HEADER = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "seq_len")
UNK, BOS, EOS, FIRST_BYTE = 0, 1, 2, 3
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6  # SentencePiece's types of pieces


class Problem(Exception):
    """What is wrong with the files, in one line."""


def read_model(path):
    """The header as a dictionary, and every tensor by its llama2.c name."""
    data = path.read_bytes()
    if len(data) < 28:
        raise Problem(f"{path}: {len(data)} bytes; a llama2.c checkpoint starts with 28 of header")
    c = dict(zip(HEADER, struct.unpack("<7i", data[:28])))
    if c["vocab_size"] < 0:
        raise Problem(f"{path}: has an output matrix of its own; only tied weights are supported")
    for name, value in c.items():
        if not 0 < value < 1 << 24:
            raise Problem(f"{path}: {name} is {value}; not a llama2.c checkpoint of version 0")
    if c["dim"] % (2 * c["n_heads"]) or c["n_heads"] % c["n_kv_heads"]:
        raise Problem(
            f"{path}: width {c['dim']}, {c['n_heads']} heads and {c['n_kv_heads']} key-value heads "
            "do not go together"
        )
    d, f, n, v = c["dim"], c["hidden_dim"], c["n_layers"], c["vocab_size"]
    kv = d // c["n_heads"] * c["n_kv_heads"]
    rope = c["seq_len"] * (d // c["n_heads"]) // 2
    sizes = {
        "emb": v * d, "rms_att": n * d, "wq": n * d * d, "wk": n * kv * d, "wv": n * kv * d,
        "wo": n * d * d, "rms_ffn": n * d, "w1": n * f * d, "w2": n * d * f, "w3": n * f * d,
        "rms_final": d, "freq_re": rope, "freq_im": rope,
    }  # fmt: skip
    expected = 28 + 4 * sum(sizes.values())
    if len(data) != expected:
        raise Problem(f"{path}: {len(data)} bytes, but its header asks for {expected}")
    tensors, at = {}, 28
    for name, size in sizes.items():
        tensors[name] = data[at : at + 4 * size]
        at += 4 * size
    return c, tensors


def half_split(rows, heads, row_bytes):
    """The rows of each head, even ones first: (0, 2, 4, ..., 1, 3, 5, ...)."""
    head_dim = len(rows) // row_bytes // heads
    order = [
        head * head_dim + row
        for head in range(heads)
        for row in [*range(0, head_dim, 2), *range(1, head_dim, 2)]
    ]
    return b"".join(rows[row * row_bytes : (row + 1) * row_bytes] for row in order)


def hugging_face_tensors(c, tensors):
    """(name, shape, bytes) of every tensor."""
    d, f = c["dim"], c["hidden_dim"]
    kv = d // c["n_heads"] * c["n_kv_heads"]
    layout = {
        "input_layernorm": ("rms_att", (d,), 0),
        "self_attn.q_proj": ("wq", (d, d), c["n_heads"]),
        "self_attn.k_proj": ("wk", (kv, d), c["n_kv_heads"]),
        "self_attn.v_proj": ("wv", (kv, d), 0),
        "self_attn.o_proj": ("wo", (d, d), 0),
        "post_attention_layernorm": ("rms_ffn", (d,), 0),
        "mlp.gate_proj": ("w1", (f, d), 0),
        "mlp.down_proj": ("w2", (d, f), 0),
        "mlp.up_proj": ("w3", (f, d), 0),
    }
    yield "model.embed_tokens.weight", (c["vocab_size"], d), tensors["emb"]
    for layer in range(c["n_layers"]):
        for name, (source, shape, rotated_heads) in layout.items():
            size = 4 * shape[0] * (shape[1] if len(shape) == 2 else 1)
            data = tensors[source][layer * size : (layer + 1) * size]
            if rotated_heads:
                data = half_split(data, rotated_heads, 4 * d)
            yield f"model.layers.{layer}.{name}.weight", shape, data
    yield "model.norm.weight", (d,), tensors["rms_final"]


def safetensors(tensors):
    header, parts, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name, shape, data in tensors:
        if not all(abs(x) < float("inf") for x in floats(data)):
            raise Problem(f"{name}: holds a number that is not finite")
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + len(data)]}
        parts.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def floats(data):
    values = array.array("f", data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def config(c):
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": c["vocab_size"],
        "hidden_size": c["dim"],
        "intermediate_size": c["hidden_dim"],
        "num_hidden_layers": c["n_layers"],
        "num_attention_heads": c["n_heads"],
        "num_key_value_heads": c["n_kv_heads"],
        "head_dim": c["dim"] // c["n_heads"],
        "hidden_act": "silu",
        "max_position_embeddings": c["seq_len"],
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0,
        "rope_scaling": None,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "torch_dtype": "float32",
    }


def read_pieces(path, vocab_size):
    """(bytes, score) of every piece."""
    data = path.read_bytes()
    pieces, at = [], 4  # the length of the longest piece stands first
    while at < len(data):
        if at + 8 > len(data):
            raise Problem(f"{path}: ends within piece {len(pieces)}")
        score, length = struct.unpack_from("<fi", data, at)
        at += 8
        if length < 0 or at + length > len(data):
            raise Problem(f"{path}: piece {len(pieces)} of {length} bytes reaches beyond the end")
        pieces.append((data[at : at + length], score))
        at += length
    if len(pieces) != vocab_size:
        raise Problem(f"{path}: {len(pieces)} pieces, but the model's vocabulary is {vocab_size}")
    if vocab_size < FIRST_BYTE + 256:
        raise Problem(f"{path}: {vocab_size} pieces; three special ones and 256 bytes are needed")
    return pieces


def varint(n):
    n &= (1 << 64) - 1  # negative numbers as protobuf writes them
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out) + bytes([n])


def number(field, n):
    return varint(field << 3) + varint(n)


def data_field(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def sentencepiece(path, pieces):
    """A ModelProto that encodes as llama2.c does: BPE by score, bytes for what has no piece."""
    special = {UNK: ("<unk>", UNKNOWN), BOS: ("<s>", CONTROL), EOS: ("</s>", CONTROL)}
    model, seen = [], set()
    for i, (data, score) in enumerate(pieces):
        try:
            text, kind = data.decode("utf-8").replace(" ", "\u2581"), NORMAL
        except UnicodeDecodeError:
            raise Problem(f"{path}: piece {i} is not UTF-8") from None
        if i in special:
            text, kind = special[i]
        elif i < FIRST_BYTE + 256:
            if text != f"<0x{i - FIRST_BYTE:02X}>":
                raise Problem(f"{path}: piece {i} is not that of byte {i - FIRST_BYTE}")
            kind = BYTE
        if not text or text in seen:
            raise Problem(f"{path}: piece {i} is {'a second one' if text else 'empty'}")
        seen.add(text)
        score_field = varint(2 << 3 | 5) + struct.pack("<f", score)
        model.append(data_field(1, data_field(1, text.encode()) + score_field + number(3, kind)))
    trainer = number(3, 2) + number(4, len(pieces)) + number(35, 1)  # BPE, byte_fallback
    trainer += number(40, UNK) + number(41, BOS) + number(42, EOS) + number(43, -1)  # no padding
    # add_dummy_prefix, remove_extra_whitespaces, escape_whitespaces
    normalizer = data_field(1, b"identity") + number(3, 1) + number(4, 0) + number(5, 1)
    return b"".join(model) + data_field(2, trainer) + data_field(3, normalizer)


def only_file(folder, files, what):
    if len(files) != 1:
        raise Problem(f"{folder}: {len(files)} files that could be {what}; expected one")
    return files[0]


def convert(source, out):
    if out.exists():
        raise Problem(f"{out}: exists already")
    if out == REPOSITORY or REPOSITORY in out.parents:
        raise Problem(f"{out}: lies in this repository, which holds no data of others")
    if not source.is_dir():
        raise Problem(f"{source}: not a folder")
    binaries = sorted(source.glob("*.bin"))
    vocabularies = [path for path in binaries if path.name.startswith("tok")]
    model = only_file(source, [p for p in binaries if p not in vocabularies], "the model (*.bin)")
    vocabulary = only_file(source, vocabularies, "the tokenizer (tok*.bin)")
    c, tensors = read_model(model)
    pieces = read_pieces(vocabulary, c["vocab_size"])
    files = {
        "config.json": (json.dumps(config(c), indent=2) + "\n").encode(),
        "model.safetensors": safetensors(hugging_face_tensors(c, tensors)),
        "tokenizer.model": sentencepiece(vocabulary, pieces),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(prefix=".tmp-", dir=out.parent))
    try:
        folder = temporary / out.name
        folder.mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        folder.rename(out)
    finally:
        shutil.rmtree(temporary)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: convert_llama2c.py CHECKPOINT_DIR OUT_DIR")
    try:
        convert(pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]).resolve())
    except (Problem, OSError) as problem:
        print(f"convert_llama2c.py: {problem}", file=sys.stderr)
        sys.exit(3 if isinstance(problem, Problem) else 6)


if __name__ == "__main__":
    main()
