"""Values that servers and validators take differently: for parameters as bytes on the wire, for bodies as JSON text."""

TEXTS = [
    "", " ", "0", "-0", "1", "2", "3", "-1", "+1", "01", "007", " 1", "1 ", "1.0", "1.5", "-1.5", "1.", ".5", "1e3",
    "1E-3", "1_000", "1__0", "_1", "0x10", "0b1", "0o7", "1,5", "1/2", "NaN", "nan", "inf", "-inf", "Infinity",
    "-Infinity", "1e308", "1e309", "-1e400", "5e-324", "0.1", "0.30000000000000004", "9007199254740993",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "9" * 25,
    "9" * 4300, "9" * 4301, "0" * 5000, "1." + "0" * 40, "1.10", "1E+3", "1E-400", "sNaN", "999.99", "999.999",
    "12345.6", "true", "True", "TRUE", "tRuE", "t", "T", "yes", "Yes", "y", "on", "ON", "false", "False", "f", "no",
    "n", "off", "Off", "null", "None", "undefined", "up", "down", "a", "b", "x", "abc", "abcd", "foo bar", "one",
    "bad", "é", "ab\u00e9", "e\u0301", "\u0663", "\uff11", "\u2002", "\u200b", "\ufeff1", "\U0001f600", "\u0130",
    "\u00df", "c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a11", "C8F1A6F2-5D5A-4F0E-8A39-2F7F6C3D9A11",
    "c8f1a6f25d5a4f0e8a392f7f6c3d9a11", "{c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a11}",
    "urn:uuid:c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a11", "c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a1",
    "00000000-0000-0000-0000-000000000000", "c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a1g", "2024-02-29", "2023-02-29",
    "2024-2-9", "2024-02-29T12:30:00", "2024-02-29T12:30", "2024-02-29 12:30:00", "2024-02-29T12:30:00Z",
    "2024-02-29t12:30:00z", "2024-02-29T12:30:00+02:00", "2024-02-29T12:30:00+0200", "2024-02-29T12:30:00.123456789Z",
    "2024-02-29T12:30:60Z", "2024-02-29T24:00:00", "2024-02-29T12:30:00-23:59", "2024-02-29T12:30:00+24:00",
    "0000-01-01", "10000-01-01", "0001-01-01T00:00:00", "9999-12-31T23:59:59.999999", "2024-W01-1", "20240229",
    "1709209800", "1709209800123", "1709209800.5", "-1", "253402300800", "86400", "12:30", "12:30:15", "12:30:15.5",
    "12:30:15+01:00", "24:00", "T12:30", "P1D", "P1DT2H3M4.5S", "-P1D", "PT36H", "P1Y", "P1W", "1 day, 0:00:01",
    "1 day", "00:01:00", "3600", "3600.5", "-3600", "99999999999999", "P999999999D", "[1,2]", "[]", "{}", '{"a":1}',
    '["x"]', "1,2,3", "a,b", "a;b", "a|b", "<b>", '"quoted"', "'single'", "back\\slash", "../x", "..", ".", "./a",
    "a/b", "/a", "a//b", "a?b", "a#b", "a&b", "a=b", "a+b", "a%b", "%41", "%", "%%", "\x00", "a\x00b", "\n", "\t",
    "\r\n", "\x1f", "\x7f", "\u0085", "\u2028", "name@example.com", "not an email", "http://example.com/x?y#z",
    "http://exa mple", "10.0.0.1", "::1", "x" * 300, "\u00e9" * 200, "ab" * 6000,
]  # fmt: skip
"""Texts for parameters of any type."""

RAW = [
    b"%C3%28", b"%FF", b"%ED%A0%80", b"%F0%9F%98%80", b"%F0%9F", b"%C0%AF", b"%E2%82", b"%zz", b"%4", b"%", b"%%31",
    b"%00", b"%2F", b"%2f", b"a%2Fb", b"a%252Fb", b"%3F", b"%23", b"%26", b"%3D", b"%2B", b"+", b"a+b", b"a%20b",
    b"%0A", b"%25", b"%E9", b"1%00", b"%31", b"%2D1", b"%31%2E%35", b"*", b"!", b"'", b"(", b")", b";", b":", b"@",
    b",", b"~", b"$", b"%u0041", b"%EF%BB%BF1", b"%E2%80%AE", b"%7B%7D",
]  # fmt: skip
"""Percent-encoded pieces, some of them wrong."""

QUERIES = [
    b"", b"&", b"&&", b"=", b"=x", b"&=&", b"%", b"%=%", b"a", b"a&b", b";", b"a;b=1", b"?", b"??a=1", b"/",
    b"a=1?b=2", b"%00=1", b"%FF=1", b"=" * 50, b"&" * 50, b"a=" + b"x" * 3000,
    b"&".join(b"p%d=%d" % (i, i) for i in range(120)),
]  # fmt: skip
"""Whole queries that say little."""

HEADER_VALUES = [
    b"", b"x", b"1", b"a, b", b"a,b", b"a;b", b"a=b", b"true", b"1.5", b"\xe9", b"\xc3\xa9", b"\xff", b"a\tb",
    b'"quoted"', b"c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a11", b"2024-02-29T12:30:00Z", b"[1]", b"{}", b"null",
    b"9" * 5000, b"x" * 2000, b"Basic", b"Basic ", b"Basic dXNlcjpwYXNz", b"basic dXNlcjpwYXNz",
    b"BASIC  dXNlcjpwYXNz", b"Basic dXNlcg==", b"Basic !!!", b"Basic dXNlcjpwYXNz extra", b"Basic 8J+YgDrDqQ==",
    b"Basic /////w==", b"Basic OnBhc3M=", b"Basic dXNlcjo=", b"Basic OnBhc3M6eA==", b"Basic dXNlcjpwYXNz==",
    b"Basic dXNlcjpwYXN", b"Bearer", b"Bearer ", b"Bearer token", b"bearer token", b"BEARER token", b"Bearer  token",
    b"Bearer token extra", b"Bearer\ttoken", b"Token token", b"Digest username=x", b"Negotiate", b"token",
]  # fmt: skip
"""Values of a header."""

COOKIES = [
    b"", b";", b"=", b"=x", b"x", b"x=", b"{n}", b"{n}=", b"{n}=1", b"{n}=a b", b'{n}="a b"', b'{n}="a;b"',
    b'{n}="a\\073b"', b'{n}="\\"q\\""', b"{n}=1; {n}=2", b"{n}=1;{n}=2", b"{n} = 1", b" {n}=1 ", b"{n}=a=b",
    b"{n}=%41", b"{n}=\xe9", b"{n}=\xc3\xa9", b"$Version=1; {n}=1; $Path=/", b"{N}=1", b"other=1; {n}=1",
    b"{n}=1, other=2", b"{n}=true", b"{n}=abc", b"{n}=2024-02-29T12:30:00Z",
    b"{n}=c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a11", b"{n}=1; Path=/; HttpOnly", b"{n}=" + b"9" * 5000, b"{n}=null",
    b"{n}=[1]", b"__Host-{n}=1", b"{n}=1; ; ;", b"{n}=\t1", b"{n}=''", b"{n}=1 ; x",
]  # fmt: skip
"""``Cookie`` headers; ``{n}`` stands for the name of one that the route reads."""

JSONS = [
    "null", "true", "false", "0", "-0", "1", "2", "-1", "3", "1.0", "-0.0", "1.5", "0.1", "1e3", "1E5", "1e-7",
    "1e308", "1e309", "-1e309", "1e400", "5e-324", "NaN", "Infinity", "-Infinity", "9007199254740993",
    "9223372036854775807", "9223372036854775808", "-9223372036854775809", "18446744073709551616", "9" * 25,
    "9" * 4300, "9" * 4301, "1.00000000000000000000000001", "123456789012345678901234567890.123456789", "1709209800",
    "1709209800123", "253402300800", '""', '" "', '"0"', '"1"', '"-1"', '"+1"', '"1.0"', '"1.5"', '" 1 "', '"1_000"',
    '"1e3"', '"NaN"', '"inf"', '"Infinity"', '"true"', '"True"', '"yes"', '"on"', '"off"', '"null"', '"None"',
    '"abc"', '"a"', '"\\u00e9"', '"é"', '"\\ud83d\\ude00"', '"\U0001f600"', '"\\ud800"', '"\\udc00\\ud800"',
    '"\\u0000"', '"\\n\\t\\b\\f\\/"', '"\\u2028"', '"<script>"', '"e\\u0301"', '"\\ufeff"',
    '"c8f1a6f2-5d5a-4f0e-8a39-2f7f6c3d9a11"', '"c8f1a6f25d5a4f0e8a392f7f6c3d9a11"', '"2024-02-29"', '"2023-02-29"',
    '"2024-02-29T12:30:00"', '"2024-02-29T12:30:00Z"', '"2024-02-29T00:00:00"', '"2024-02-29 12:30:00.123456+02:00"',
    '"2024-02-29T12:30:60Z"', '"12:30"', '"12:30:15.5"', '"12:30:15+01:00"', '"24:00"', '"P1DT2H3M4.5S"', '"-P1D"',
    '"1 day, 0:00:01"', '"1.10"', '"1E+3"', '"sNaN"', '"name@example.com"', '"http://example.com"',
    '"HTTP://Example.COM:80/é?q#f"', '"aGVsbG8="', '"aGVsbG8"', '"_-8="', '"!!"', '"10.0.0.1"', '"^a+$"', "[]",
    "[null]", "[1]", '["a"]', '["a","a"]', "[1,2,3]", '[1,"2",3.0]', "[[]]", "[{}]", "[1,2", "{}", '{"a":1}',
    '{"a":1,"a":2}', '{"":null}', '{"1":1}', '{"name":"n"}', '{"type":"x"}', '{"__proto__":1}', "[" * 40 + "]" * 40,
    '{"a":' * 40 + "1" + "}" * 40, '"' + "x" * 3000 + '"', '"' + "é" * 300 + '"', "[" + "1," * 500 + "1]",
]  # fmt: skip
"""JSON texts for a field of any type."""

BODIES = [
    b"", b" ", b"\n", b"\x00", b"null", b" null ", b"true", b"1", b'"text"', b"[]", b"{}", b"{ }", b"[{}]", b"{",
    b"}", b"[", b"]", b'"', b"nul", b"tru", b"NULL", b"None", b"nan", b"NaN", b"-Infinity", b"Infinity", b"-", b"01",
    b"+1", b".5", b"1.", b"1e", b"1e400", b"-0", b"'a'", b"{a:1}", b"{'a':1}", b'{"a":1,}', b"[1,]", b"[,1]",
    b'{"a"}', b'{"a":}', b'{"a" 1}', b'{"a":1 "b":2}', b'{"a":1}{"b":2}', b'{"a":1} x', b'{"a":1}\x00', b"// c\n{}",
    b"/**/{}", b"\xef\xbb\xbf{}", b"\xef\xbb\xbf", b"\xff\xfe{\x00}\x00", b"\xfe\xff\x00{\x00}", b"{\x00}\x00",
    b"\x00{\x00}", b"\xff\xfe\x00\x00{\x00\x00\x00}\x00\x00\x00", b"{\x00\x00\x00}\x00\x00\x00", b'"\xff"',
    b'"\xc3\x28"', b'"\xed\xa0\x80"', b'"\xf0\x9f\x98\x80"', b'{"\xff":1}', b'\xff', b'{}\xff', b'"\\ud800"',
    b'"\\ud800\\u0041"', b'"\\udc00"', b'"\\u00"', b'"\\u00g0"', b'"\\x41"', b'"\\"', b'"a\nb"', b'"a\tb"', b'"\x1f"',
    b'"\x7f"', b'"\\u0000"', b"[" * 60 + b"]" * 60, b"[" * 190 + b"]" * 190, b"[" * 201 + b"]" * 201,
    b"[" * 900 + b"]" * 900, b"[" * 3000 + b"]" * 3000, b"[" * 100_000, b'{"a":' * 150 + b"1" + b"}" * 150,
    b'{"a":' * 2000 + b"1" + b"}" * 2000, b"9" * 4300, b"9" * 4301, b"[" + b"9" * 5000 + b"]", b"1" * 400 + b".5",
    b"[" + b"1," * 20_000 + b"1]", b'"' + b"x" * 100_000 + b'"', b" " * 5000 + b"{}", b"{}" + b"\n" * 5000, b"\x0c{}",
    b"\xa0{}", b"\xc2\xa0{}", b"a=1&b=2", b"<xml/>",
    b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n',
]  # fmt: skip
"""Whole bodies."""

CONTENT_TYPES = [
    None, b"", b"application/json", b"application/json; charset=utf-8", b"application/json;charset=latin-1",
    b"application/json; charset=utf-16", b"APPLICATION/JSON", b" application/json ", b"application/json;",
    b"application/json ; a=b", b"application/vnd.api+json", b"application/problem+JSON", b"application/+json",
    b"application/jsonx", b"application/x-json", b"application/json+x", b"application/", b"application", b"text/json",
    b"text/plain", b"text/plain; charset=utf-8", b"application/x-www-form-urlencoded", b"multipart/form-data",
    b"multipart/form-data; boundary=b", b"application/octet-stream", b"*/*", b"json", b"application/json, text/plain",
    b"application/json/x", b'application/json; a="b', b"image/svg+json", b"application/geo+json; q=1",
    b"application\t/json", b"\xe9/json", b"application/\xe9+json",
]  # fmt: skip
"""Content types; ``None`` is none at all."""

METHODS = ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "POST", "GET", "TRACE", "PROPFIND"]
"""Methods, for a path that may not have them."""
