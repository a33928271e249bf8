"""Lines of event files, good and odd, made by chance from a seed."""

import json
import random

_SPECIAL = [
    b'"',
    b"\\",
    b"\r",
    b"\0",
    b",",
    b"\t",
    b" ",
    b"\x01",
    b"\x7f",
    b"\xe9",
    b"\xc3\xa9",
    b"\n",
    b"[",
    b"]",
    b"{",
    b"}",
    b"-",
    b":",
]
_SPECIAL += [
    b'""',
    b"\\x41",
    b"\\n",
    b'\\"',
    b"\xef\xbb\xbf",
    b"\r\n",
    b"0",
    b"\xff",
    b"\xed\xa0\x80",
    b"'",
    b"/",
    b"+",
]
_IDS = [
    b"ann",
    b"10.0.0.1",
    b"u0001",
    b"2001:db8::1",
    b"7",
    b"-",
    b"",
    b"\xe9t\xe9",
    "\u00e9t\u00e9".encode(),
    b"a" * 40,
]
_IDS += [b"10.0.0.1:80", b"[::1]:80", b"::1", b"1:2:3:4:5:6:7:8", b"1:2:3", b"10.0.0.1, 10.0.0.2", b"a,b"]
_IDS += [b"x" * 1024, b"x" * 1025, b'a"b', b"a\\b", b"a b", b" a", b"a ", b"a\0"]
_TIMES = {
    "iso": [
        "2026-01-02T10:11:12",
        "2026-01-02 10:11:12",
        "2026-01-02T10:11:12Z",
        "2026-01-02T10:11:12+02:00",
        "2026-01-02T10:11:12.5",
        "2026-01-02T10:11:12.123456",
        "2026-01-02T10:11:12.123456789Z",
        "2026-01-02T10:11:12.123+0530",
        "2026-01-02",
        "20260102",
        "2026-01-02T10:11",
        "2026-02-30",
        "2026-02-30T10:11:12",
        "2026-01-02T24:00:00",
        "2026-01-02T10:60:00",
        "2026-01-02T10:11:60",
        "0999-12-31T23:59:59",
        "9999-01-01T00:00:00",
        "1969-12-31T23:59:59",
        "2100-01-01T00:00:00",
        "2026-03-29T01:30:00Z",
        "2026-03-29T02:30:00",
        "2026-10-25T00:30:00Z",
        "2026-01-02T10:11:12-00:00",
        "2026-01-02T10:11:12+25:00",
        "2026-1-2",
        "",
        "never",
        " 2026-01-02",
        "2026-01-02T10:11:1\u0661",
        "2026-W01-1",
        "2026-01-02t10:11:12",
        "2026-01-02T10:11:12,5",
        "2026-00-10T00:00:00",
        "2026-01-00T00:00:00",
        "2026-13-10",
        "2026-01-02T10:11:12.Z",
        "2026-01-02T10:11:12z",
        "2026-01-02\u202f10:11:12",
    ],
    "epoch": [
        "1767348672",
        "1767348672.25",
        "0",
        "-1",
        "1",
        "99999999999",
        "1e9",
        "",
        " 1767348672",
        "017",
        "1_000",
        "nan",
        "4102444800",
        "1767348672123",
    ],
    "epoch_ms": [
        "1767348672123",
        "1767348672",
        "0",
        "-1",
        "1767348672123.5",
        "9999999999999999",
        "x",
        "",
        "1767348672999",
    ],
    "%d.%m.%Y": ["02.01.2026", "2.1.2026", "31.02.2026", "01.01.1900", "", "x", "02.01.2026 ", "03.01.2026"],
}
_LOG_TIMES = [
    "17/May/2015:10:05:03 +0200",
    "29/Mar/2026:01:30:00 +0000",
    "31/Feb/2015:10:05:03 +0200",
    "17/may/2015:10:05:03 +0200",
]
_LOG_TIMES += [
    "17/May/2015:24:05:03 +0200",
    "17/May/2015:10:05:60 +0200",
    "17/May/2015:10:05:03 +2460",
    "17/May/0999:10:05:03 +0200",
]
_LOG_TIMES += [
    "17/May/2015:10:05:03",
    "7/May/2015:10:05:03 +0200",
    "17/May/1969:10:05:03 -0800",
    "17/May/2015:10:05:03 -0000",
    "17/May/9999:10:05:03 +0000",
]
_TEXTS = [
    b"-",
    b"",
    b"GET / HTTP/1.1",
    b'a \\"b\\"',
    b"\\xe9",
    b"\xe9",
    b"\\\\",
    b"a\tb",
    b"a\\",
    b"\x01",
    b'"',
    b"x" * 1025,
    b"a\x7fb",
    b"\\\xe9",
]
_ENDS = [b"\r\n", b"\r", b" \n", b"", b"\n\n", b"\n\r\n"]


def _pick(chance, common, others, odd=0.1):
    return chance.choice(others) if chance.random() < odd else common


def _damaged(chance, line):
    """Insert, replace or delete something, now and then."""
    while chance.random() < 0.1:
        place = chance.randrange(len(line) + 1)
        gone = chance.choice([0, 0, 1, 1, 5])
        line = line[:place] + chance.choice([b"", *_SPECIAL]) + line[place + gone :]
    return line + _pick(chance, b"\n", _ENDS, 0.03)


def _log_line(chance, kind):
    host = _pick(chance, b"10.0.0.%d" % chance.randrange(250), _IDS)
    user = _pick(chance, b"-", [*_IDS, b'""', b"- -"])
    time = _pick(
        chance,
        f"{chance.randrange(10, 29)}/Oct/2015:{chance.randrange(24):02}:05:{chance.randrange(60):02} +0200",
        _LOG_TIMES,
    )
    status, size = (
        _pick(chance, b"200", [b"-", b"20", b"2000", b""]),
        _pick(chance, b"512", [b"0", b"012", b"-", b"-5", b"", b"00"]),
    )
    request, referer, agent = (
        _pick(chance, text, _TEXTS) for text in (b"GET /x HTTP/1.1", b"http://x/", b"Agent 1.0 (X; Y)")
    )
    line = b'%s %s %s [%s] "%s" %s %s' % (
        host,
        _pick(chance, b"-", _IDS, 0.03),
        user,
        time.encode(),
        request,
        status,
        size,
    )
    if kind.endswith("combined") and chance.random() > 0.02:
        line += b' "%s" "%s"' % (referer, agent)
    if kind == "nginx":
        line += b' "%s" "%s" "%s"' % (referer, agent, _pick(chance, b"-", [*_TEXTS, b"10.0.0.1, 10.0.0.2"]))
    if kind.startswith("vhost"):
        line = (
            _pick(chance, b"a.example", _IDS)
            + b":"
            + _pick(chance, b"80", [b"", b"080", b"0", b"-1"])
            + b" "
            + line
        )
    return line


def _time(chance, format):
    if format == "iso":
        day = f"2026-{chance.randrange(1, 13):02}-{chance.randrange(1, 29):02}"
        usual = f"{day}T{chance.randrange(24):02}:{chance.randrange(60):02}:07"
    else:
        usual = chance.choice(_TIMES[format][:2])
    return _pick(chance, usual, _TIMES[format], 0.2).encode()


def _cell(chance, value, delimiter):
    if chance.random() < 0.2:
        value = b'"' + value.replace(b'"', b'""') + b'"'
    return _pick(
        chance,
        value,
        [
            b'"' + value,
            value + b'"',
            b' "' + value + b'"',
            b'"' + value + delimiter + b'"',
            b'"a\nb"',
            b"  " + value,
        ],
        0.02,
    )


def _row(chance, delimiter, format):
    values = [
        _pick(chance, b"u%d" % chance.randrange(99), _IDS),
        _pick(chance, b"site%d" % chance.randrange(3), _IDS),
        _time(chance, format),
    ]
    cells = [_cell(chance, value, delimiter) for value in values]
    if chance.random() < 0.03:
        cells = chance.choice(
            [cells[:2], [*cells, b"more"], [*cells, b'"m,o"'], [*cells, b'"open'], [], [b""]]
        )
    return delimiter.join(cells)


def _record(chance, format):
    time = _time(chance, format).decode()
    time = json.dumps(time) if format in ("iso", "%d.%m.%Y") or chance.random() < 0.2 else time or "null"
    odd = [
        "7",
        "-7",
        "0",
        "12345678901234567890123",
        "1.5",
        "true",
        "null",
        '""',
        '"\\u00e9"',
        '"\\ud800"',
        '"a\\nb"',
        "[1]",
        '{"a": 1}',
    ]
    odd += [
        "NaN",
        "1e400",
        '"' + "x" * 1025 + '"',
        '"\u00e9"',
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "01",
    ]
    id = _pick(chance, f'"u{chance.randrange(99)}"', odd)
    site = _pick(chance, f'"site{chance.randrange(3)}"', odd)
    pairs = [
        f'"id": {id}',
        f'"site": {site}',
        f'"time": {time}',
        f'"user": {{"name": {id}}}',
        '"n": [1, {"x": null}]',
    ]
    if chance.random() < 0.05:
        pairs.pop(chance.randrange(5))
    if chance.random() < 0.05:
        pairs.append(
            chance.choice(
                [
                    '"id": 9',
                    '"user.name": 8',
                    '"deep": ' + "[" * 3000 + "]" * 3000,
                    '"x": "\x01"',
                    '"x": Infinity',
                ]
            )
        )
    chance.shuffle(pairs)
    line = "{" + ", ".join(pairs) + "}"
    line = _pick(
        chance,
        line,
        [
            line + " ",
            " " + line,
            line + line,
            line + "x",
            "[" + line + "]",
            line[:-1],
            "7",
            "",
            "null",
            "\t",
            line + "\u00a0",
        ],
        0.05,
    )
    return line.encode()


def make(kind, count, seed, *, delimiter=b",", time_format="iso"):
    """Lines of a kind: common, combined, vhost_common, vhost_combined, csv or jsonl, without a header."""
    chance = random.Random(f"{kind} {seed} {delimiter} {time_format}")
    make_line = {
        "csv": lambda: _row(chance, delimiter, time_format),
        "jsonl": lambda: _record(chance, time_format),
    }.get(kind, lambda: _log_line(chance, kind))
    return b"".join(_damaged(chance, make_line()) for _ in range(count))
