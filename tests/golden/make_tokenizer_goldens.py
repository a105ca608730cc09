#!/usr/bin/env python3
"""Trains small tokenizers, one for each set-up that model families use, and writes what the
reference makes of generated text: make_tokenizer_goldens.py [--train]

Into tokenizers/ beside it: <kind>.json or <kind>.model, fragments.json (what lines are made of),
goldens.json and classes.json (hashes). README.md there describes them. Needs tokenizers,
transformers, sentencepiece and protobuf; versions are in goldens.json. Tokenizers that are there are
kept unless --train is given, because the trainer breaks ties by chance; the hashes of two runs are
the same then.
"""
import collections
import hashlib
import json
import pathlib
import struct
import sys
import tempfile
import unicodedata

import sentencepiece
import tokenizers
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers as pre
from tokenizers import processors, trainers

OUT = pathlib.Path(__file__).parent / "tokenizers"
LINES, LINES_PER_HASH = 20000, 100
POINTS_PER_HASH = 4096
TRAINING_LINES = 6000

WORDS = """the and that with from this have which were their would there been other when your said
what about into them then some could time these like more now look only come over think also back
after work first well even want because any give most token model train text layer merge rank value
Hello World NASA LLaMA iPhone naïve café über Straße don't I'll we've it's THE AND You're""".split()
SYLLABLES = "er in on at re st en nd ti es or te ed is it al ar le ou ing ion ck th sh qu x z".split()
CODE = ["for (int i = 0; i < n; ++i) {", "return x;", "def f(x):\n    pass", "== != <= >=", "->", "::",
        "&&", "||", "</div>", "\t\tif (a[i]) {", "}\n", "// note", "#include <x.h>", "x = {'a': 1}",
        "https://example.org/a?b=c&d=%20", "a_b_c", "camelCaseName", "0xFF", "1e-5", "3.14159", "\\n"]
PUNCTUATION = list(".,;:!?-_()[]{}<>/\\|@#$%^&*+=~`'\"") + ["...", "--", "“", "”", "’", "—", "…", "。", "，",
                                                           "¿", "€", "™", "©", "½", "²", "№", "Ⅷ", "①"]
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "❤️", "🇩🇪", "🇯🇵", "1️⃣", "🤦🏼‍♂️", "🚀", "☃", "⚡️"]
CONTROLS = [chr(c) for c in list(range(0x20)) + [0x7F, 0x80, 0x85, 0x9F, 0xA0, 0xAD, 0x180E, 0x200B, 0x200C,
                                                 0x200D, 0x2028, 0x2029, 0x202F, 0x3000, 0xFEFF, 0xFFFD,
                                                 0xE000, 0x10FFFF]]
ADDED = ["<|endoftext|>", "<s>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>", "<|im", "[WORD]", "[LEFT]",
         "[RIGHT]", "[BOTH]", "[Mixed]", "[mixed]", "word", "  ", "    ", "<0x41>", "▁", "Ġ", "<mask>"]
CONTRACTIONS = ["'s", "'S", "'t", "'RE", "'ve", "'M", "'ll", "'D", "'\u017f", "'LL", "'K", "\u212a"]
RANGES = [(0xC0, 0x17F), (0x250, 0x2AF), (0x391, 0x3A1), (0x3B1, 0x3C9), (0x410, 0x44F), (0x561, 0x586),
          (0x5D0, 0x5EA), (0x621, 0x64A), (0x660, 0x669), (0x905, 0x939), (0x93E, 0x94D), (0x966, 0x96F),
          (0xE01, 0xE30), (0x10D0, 0x10F0), (0x1200, 0x1248), (0x1EA0, 0x1EF9), (0x2070, 0x2071),
          (0x2190, 0x21FF), (0x2200, 0x22FF), (0x2460, 0x24FF), (0x3041, 0x3096), (0x30A1, 0x30FA),
          (0x4E00, 0x4FFF), (0xAC00, 0xADFF), (0xF900, 0xFA00), (0xFB00, 0xFB06), (0xFF01, 0xFF5E),
          (0x1D400, 0x1D454), (0x1F600, 0x1F64F), (0x20000, 0x20100), (0x10330, 0x1034A), (0x1E900, 0x1E943)]

# What a line is made of: `times` pieces out of `choices`, or out of one of `ranges`.
FRAGMENTS = [
    {"choices": WORDS, "times": [1, 1]},
    {"choices": [" " + w for w in WORDS], "times": [1, 4]},
    {"choices": SYLLABLES, "times": [1, 6]},
    {"choices": [" " + s for s in SYLLABLES], "times": [1, 5]},
    {"choices": list("0123456789"), "times": [1, 9]},
    {"choices": [" "], "times": [1, 40]},
    {"choices": [" "], "times": [1, 1]},
    {"choices": ["\n", "\r\n", "\t", " \n", "\r"], "times": [1, 4]},
    {"choices": PUNCTUATION, "times": [1, 5]},
    {"choices": CODE, "times": [1, 2]},
    {"choices": EMOJI, "times": [1, 4]},
    {"choices": CONTROLS, "times": [1, 3]},
    {"choices": ADDED, "times": [1, 2]},
    {"choices": CONTRACTIONS, "times": [1, 2]},
    {"choices": list("aeonsucAEONSUC가각中"), "times": [1, 2]},
    {"ranges": [[0x300, 0x36F]], "times": [1, 4]},
    {"ranges": [list(r) for r in RANGES], "times": [1, 8]},
    {"ranges": [list(r) for r in RANGES], "times": [1, 2]},
]
LOWERCASE = ["added", "words"]  # kinds of which a character alone shows the age of a library, too
MASK = (1 << 64) - 1


class Random:
    """SplitMix64; the test has the same one."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % n


def line(seed):
    random = Random(seed)
    text = ""
    for _ in range(1 + random.below(10)):
        fragment = FRAGMENTS[random.below(len(FRAGMENTS))]
        low, high = fragment["times"]
        times = low + random.below(high - low + 1)
        if "choices" in fragment:
            for _ in range(times):
                text += fragment["choices"][random.below(len(fragment["choices"]))]
        else:
            first, last = fragment["ranges"][random.below(len(fragment["ranges"]))]
            for _ in range(times):
                text += chr(first + random.below(last - first + 1))
    return text


GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace("{1,3}", "")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
         r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
         r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}"
         r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


def special(text, **flags):
    return AddedToken(text, special=True, normalized=False, **flags)


def byte_level(tokenizer, vocab=700, prefix=False):
    if tokenizer.pre_tokenizer is None:
        tokenizer.pre_tokenizer = pre.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    return trainers.BpeTrainer(vocab_size=vocab, initial_alphabet=pre.ByteLevel.alphabet(),
                               special_tokens=[special("<|endoftext|>")], show_progress=False)


def plain(vocab=900, bytes_too=False, unknown="<unk>"):
    tokens = [special(t) for t in (unknown, "<s>", "</s>")]
    trainer_tokens = tokens + [f"<0x{b:02X}>" for b in range(256)] if bytes_too else tokens
    return trainers.BpeTrainer(vocab_size=vocab, special_tokens=trainer_tokens, limit_alphabet=300,
                               show_progress=False)


def gpt2():
    t = Tokenizer(models.BPE())
    return t, byte_level(t), []


def prefix_space():
    t = Tokenizer(models.BPE())
    trainer = byte_level(t, prefix=True)
    t.post_processor = processors.ByteLevel(trim_offsets=True)
    return t, trainer, [special("<mask>", lstrip=True)]


def neox():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    return t, byte_level(t), [AddedToken(" " * n, normalized=True) for n in range(24, 1, -1)]


def llama3():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre.Sequence([pre.Split(Regex(LLAMA3), "isolated"),
                                    pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t, byte_level(t), [special("<|im_start|>"), special("<|im_end|>"), special("<s>")]


def dolma2():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre.Sequence([pre.Split(Regex(LLAMA3), "removed", invert=True),
                                    pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t, byte_level(t), [AddedToken("<|im", normalized=False), special("<|im_end|>")]


def smollm2():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    return t, byte_level(t), [special("<|im_start|>"), special("<|im_end|>")]


def qwen2():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.NFC()
    t.pre_tokenizer = pre.Sequence([pre.Split(Regex(QWEN2), "isolated"),
                                    pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t, byte_level(t), [special("<|im_start|>"), special("<|im_end|>")]


def o200k():
    t = Tokenizer(models.BPE(ignore_merges=True))
    t.pre_tokenizer = pre.Sequence([pre.Split(Regex(O200K), "isolated"),
                                    pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t, byte_level(t), []


def deepseek():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre.Sequence([
        pre.Split(Regex(r"[\r\n]"), "isolated"), pre.Split(Regex(r"\s?\p{L}+"), "isolated"),
        pre.Split(Regex(r"\s?\p{P}+"), "isolated"), pre.Split(Regex("[一-龥ࠀ-一가-퟿]+"), "isolated"),
        pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t, byte_level(t), []


def bloom():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre.Sequence([pre.Split(Regex(BLOOM), "isolated"),
                                    pre.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t, byte_level(t), []


def behaviors():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.Sequence([normalizers.Replace(Regex(r"\s{3,}"), " + "), normalizers.Replace("er", "ER")])
    t.pre_tokenizer = pre.Sequence([
        pre.Split("e", "merged_with_previous"), pre.Split(Regex("[0-4]"), "contiguous"),
        pre.Split(Regex(r"\w?\d*"), "merged_with_next"), pre.Punctuation("merged_with_next"),
        pre.Digits(individual_digits=False), pre.Split(" ", "merged_with_next", invert=True),
        pre.ByteLevel(add_prefix_space=True, use_regex=False)])
    return t, byte_level(t), []


def added():
    t = Tokenizer(models.BPE())
    t.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    return t, byte_level(t), [
        AddedToken("[WORD]", single_word=True, normalized=False), AddedToken("[LEFT]", lstrip=True, normalized=False),
        AddedToken("[RIGHT]", rstrip=True, normalized=False), AddedToken("[BOTH]", lstrip=True, rstrip=True, normalized=True),
        AddedToken("[Mixed]", normalized=True), AddedToken("word", single_word=True, normalized=True),
        AddedToken("  ", normalized=False, rstrip=True), special("<|im", single_word=True),
        AddedToken("<|im_start|>", special=True, normalized=True), AddedToken("</s>", special=True, normalized=True)]


def llama2():
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", 1)])
    t.pre_tokenizer = pre.Split("▁", "merged_with_next")  # for training; taken off afterwards
    return t, plain(bytes_too=True), []


def llama2_metaspace():
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.pre_tokenizer = pre.Metaspace("▁", prepend_scheme="first", split=False)
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    t.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A $B", [("<s>", 1), ("</s>", 2)])
    return t, plain(bytes_too=True), []


def metaspace():
    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.normalizer = normalizers.NFKC()
    t.pre_tokenizer = pre.Metaspace("▁", prepend_scheme="always", split=True)
    t.decoder = decoders.Metaspace("▁", prepend_scheme="always")
    return t, plain(), [AddedToken("<mask>", lstrip=True, normalized=False)]


def few_bytes():
    """Byte fallback that lacks bytes, and unknown tokens that are fused."""
    t = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    t.pre_tokenizer = pre.Metaspace("▁", prepend_scheme="never", split=True)
    t.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace("▁", prepend_scheme="never")])
    trainer = plain(vocab=500)
    trainer.special_tokens = [special("<unk>")] + [f"<0x{b:02X}>" for b in range(0x80, 0xE4)]
    return t, trainer, []


def words():
    t = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=False))
    t.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.Strip(), normalizers.Lowercase()])
    t.pre_tokenizer = pre.Sequence([pre.WhitespaceSplit(), pre.Whitespace(), pre.Punctuation()])
    return t, plain(), [AddedToken("word", single_word=True)]


KINDS = [gpt2, prefix_space, neox, llama3, dolma2, smollm2, qwen2, o200k, deepseek, bloom, behaviors, added,
         llama2, llama2_metaspace, metaspace, few_bytes, words]


def merges_as_strings(document):
    document["model"]["merges"] = [" ".join(m) for m in document["model"]["merges"]]


def train(kind, corpus):
    tokenizer, trainer, tokens = kind()
    tokenizer.train_from_iterator(corpus, trainer)
    if kind is llama2:
        tokenizer.pre_tokenizer = None
    document = json.loads(tokenizer.to_str())
    if kind in (llama2, llama2_metaspace, few_bytes):  # bytes are not added tokens
        document["added_tokens"] = [t for t in document["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(document))
    tokenizer.add_tokens(tokens)
    if kind is llama3:
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing("<s> $A", "<s> $A $B", [("<s>", tokenizer.token_to_id("<s>"))])])
    document = json.loads(tokenizer.to_str())
    if kind in (gpt2, llama2, smollm2):
        merges_as_strings(document)
    if kind is gpt2:
        del document["model"]["type"]  # as old files have it
        del document["model"]["ignore_merges"]
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
    (OUT / f"{kind.__name__}.json").write_text(text, encoding="utf-8")


class HuggingFace:
    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    def encode(self, texts):
        return [e.ids for e in self.tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(self, ids):
        return self.tokenizer.decode_batch(ids, skip_special_tokens=True)


class SentencePiece:
    def __init__(self, path):
        self.processor = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def encode(self, texts):
        return self.processor.encode(texts)

    def decode(self, ids):
        return self.processor.decode(ids)


def digest(chunks):
    return hashlib.sha256(b"".join(chunks)).hexdigest()[:12]


def ids_bytes(ids):
    return struct.pack(f"<{len(ids) + 1}i", *ids, -1)


def blocks(items, size):
    return [items[i:i + size] for i in range(0, len(items), size)]


def scalars():
    return [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]


def unstable():
    """Code points without a category in Unicode 14: libraries of different age disagree on them. And two
    whose category changed after Unicode 8, whose punctuation the reference has."""
    ranges = []
    for c in scalars():
        if unicodedata.category(chr(c)) != "Cn" and c not in (0x166D, 0x111C9):
            continue
        if ranges and ranges[-1][1] == c - 1:
            ranges[-1][1] = c
        else:
            ranges.append([c, c])
    return ranges


def goldens(name, reference, left_out):
    alone_too = name in LOWERCASE
    lines = [line(seed) for seed in range(LINES)]
    ids = reference.encode(lines)
    decoded = reference.decode(ids)
    result = {
        "ids": [digest(map(ids_bytes, b)) for b in blocks(ids, LINES_PER_HASH)],
        "decoded": [digest(t.encode() + b"\xff" for t in b) for b in blocks(decoded, LINES_PER_HASH)],
        "restored": sum(a == b for a, b in zip(lines, decoded)),
        "leaves_out_alone": alone_too, "code_points": [], "in_context": [],
    }
    for block in blocks(scalars(), POINTS_PER_HASH):
        characters = [chr(c) for c in block]
        known = [c for c in characters if c not in left_out]
        alone = known if alone_too else characters
        result["code_points"].append(digest(map(ids_bytes, reference.encode(alone))) if alone else "")
        context = [f"a{c}1 {c}{c} b" for c in known]
        result["in_context"].append(digest(map(ids_bytes, reference.encode(context))) if known else "")
    return result


def classes(left_out):
    """What the reference's expressions match and what its normalisers make, of every character alone."""
    result = {"expressions": {}, "normalizers": {}}
    characters = [[c for c in map(chr, b) if c not in left_out] for b in blocks(scalars(), 0x10000)]
    for expression in [r"\p{L}", r"\p{N}", r"\p{P}", r"\p{S}", r"\p{M}", r"\p{Z}", r"\p{Lu}", r"\p{Ll}", r"\p{Nd}",
                       r"\s", r"\S", r"\w", r"\W", r"\d", r"\h", r"[\s\p{L}]", r"[^\s\p{L}\p{N}]", r"[^\S\n]", ".",
                       r"\p{Han}", r"\p{Greek}", "(?i:s)", "(?i:k)", "[[a-f]é-ü一]", r"\u00e9|\x41"]:
        split = pre.Split(Regex(expression), "removed")
        result["expressions"][expression] = [
            digest(b"0" if split.pre_tokenize_str(c) else b"1" for c in block) for block in characters]
    for name in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase"]:
        normalizer = getattr(normalizers, name)()
        result["normalizers"][name] = [
            digest(normalizer.normalize_str(c).encode() + b"\xff" for c in block) for block in characters]
    return result


def train_sentencepiece(corpus):
    """With LLaMA's options."""
    with tempfile.TemporaryDirectory() as folder:
        text = pathlib.Path(folder) / "corpus.txt"
        counts = collections.Counter("".join(corpus)) - collections.Counter("\n\r\0")
        common = sorted(counts, key=lambda c: (-counts[c], c))[:500]  # the others are for the bytes
        table = {ord(c): " " for c in counts if c not in common} | {ord(c): " " for c in "\n\r\0"}
        text.write_text("\n".join(c.translate(table) for c in corpus), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=f"{folder}/m", model_type="bpe", vocab_size=1200,
            character_coverage=1.0, byte_fallback=True, num_threads=1, minloglevel=2,
            normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
            allow_whitespace_only_pieces=True)
        data = (pathlib.Path(folder) / "m.model").read_bytes()
    path = OUT / "spm_bpe.model"
    path.write_bytes(data)
    return path


def train_unigram(corpus):
    """With rules of its own for characters, user-defined pieces, no bytes."""
    rules = ["AB\t", "2460\t31 2E", "41\t61", "41 42\t78 20 79", "41 42 43\t20", "61 301\tE1", "D\t20",
             "200B\t20 20", "FB03\t66 66 69", "4E2D\t4E2D 20 4E2D", "1F600\t3A 29", "E9\t65 301"]
    with tempfile.TemporaryDirectory() as folder:
        text, table = pathlib.Path(folder) / "corpus.txt", pathlib.Path(folder) / "rules.tsv"
        text.write_text("\n".join(c.translate({ord(x): " " for x in "\n\r\0"}) for c in corpus), encoding="utf-8")
        table.write_text("\n".join(rules) + "\n", encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(text), model_prefix=f"{folder}/m", model_type="unigram", vocab_size=1500,
            character_coverage=0.98, num_threads=1, minloglevel=2, normalization_rule_tsv=str(table),
            user_defined_symbols=["<|im", "<|im_start|>", "er ", "  ", "the", " th"])
        data = (pathlib.Path(folder) / "m.model").read_bytes()
    (OUT / "spm_unigram.model").write_bytes(data)


def converted(model):
    """The tokenizer.json that transformers makes of a SentencePiece model of LLaMA's kind."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "tokenizer.model").write_bytes(model.read_bytes())
        transformers.LlamaTokenizer.from_pretrained(folder).save_pretrained(folder)
        document = json.loads((pathlib.Path(folder) / "tokenizer.json").read_text(encoding="utf-8"))
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n"
    (OUT / "spm_converted.json").write_text(text, encoding="utf-8")


def write(name, value):
    (OUT / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="utf-8")


def main():
    OUT.mkdir(exist_ok=True)
    assert unicodedata.unidata_version == "14.0.0", "run with Python 3.11, whose Unicode is 14"
    left_out_ranges = unstable()
    left_out = {chr(c) for first, last in left_out_ranges for c in range(first, last + 1)}
    write("classes.json", classes(left_out))
    corpus = [line((1 << 32) + seed) for seed in range(TRAINING_LINES)]
    if "--train" in sys.argv[1:] or not (OUT / "spm_converted.json").exists():
        for kind in KINDS:
            train(kind, corpus)
        converted(train_sentencepiece(corpus))
    references = {}
    for name in [k.__name__ for k in KINDS] + ["spm_converted"]:
        references[name] = HuggingFace(Tokenizer.from_file(str(OUT / f"{name}.json")))
    if "--train" in sys.argv[1:] or not (OUT / "spm_unigram.model").exists():
        train_unigram(corpus)
    for name in ["spm_bpe", "spm_unigram"]:
        references[name] = SentencePiece(OUT / f"{name}.model")
    write("fragments.json", FRAGMENTS)
    write("goldens.json", {
        "versions": {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__,
                     "sentencepiece": sentencepiece.__version__},
        "lines": LINES, "lines_per_hash": LINES_PER_HASH, "points_per_hash": POINTS_PER_HASH,
        "left_out": left_out_ranges,
        "kinds": {name: goldens(name, reference, left_out) for name, reference in references.items()},
    })


if __name__ == "__main__":
    main()
