"""Writes the tables that the binder is held against: what FastAPI and pydantic answer to many inputs.

Run with a Python that has the reference's versions (fastapi 0.136.3, pydantic 2.13.4): python gen.py
Each table is a matrix shape x input of indexes into its list of outcomes. An outcome is {"ok": value}, {"status": n}
or {"errors": [[type, loc, msg, ctx, input], ...]}, where the input is left out if it is the whole input of the case.
"""
import asyncio, json, math, pathlib
from typing import Any, Literal, Optional
from fastapi import Body, Cookie, FastAPI, File, Form, Header, Query, Request, UploadFile
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, create_model
from starlette.responses import Response

HERE = pathlib.Path(__file__).parent
app = FastAPI()


def dumps(v):
    return json.dumps(v, separators=(',', ':'))


@app.exception_handler(RequestValidationError)
async def invalid(request: Request, exc: RequestValidationError):
    try:
        detail = jsonable_encoder(exc.errors())
    except Exception:
        detail = [{k: v for k, v in e.items() if k != 'input'} for e in exc.errors()]
    return Response(dumps({'errors': detail}), 422)


async def call(method, path, query=b'', headers=(), body=b''):
    out = {'body': b''}

    async def receive():
        return {'type': 'http.request', 'body': body, 'more_body': False}

    async def send(m):
        if m['type'] == 'http.response.start':
            out['status'] = m['status']
        else:
            out['body'] += m.get('body', b'')

    scope = {'type': 'http', 'asgi': {'version': '3.0'}, 'http_version': '1.1', 'method': method, 'path': path, 'raw_path': path.encode(),
             'root_path': '', 'scheme': 'http', 'query_string': query, 'headers': list(headers), 'client': ('127.0.0.1', 1), 'server': ('h', 80)}
    await app(scope, receive, send)
    return out['status'], out['body']


def plain(v, depth=0):
    """Whether a value is one that JSON and 64 bits can carry, and small."""
    if isinstance(v, float):
        return math.isfinite(v)
    if isinstance(v, int):
        return abs(v) < 2**63
    if isinstance(v, str):
        return not any(0xD800 <= ord(c) < 0xE000 for c in v)
    if isinstance(v, (list, dict)) and depth > 20:
        return False
    if isinstance(v, list):
        return all(plain(x, depth + 1) for x in v)
    if isinstance(v, dict):
        return all(plain(k) and plain(x, depth + 1) for k, x in v.items())
    return True


def outcome(status, body, whole=...):
    if status == 200:
        v = json.loads(body)
        return {'ok': v} if plain(v) else {'status': 200}
    if status != 422:
        return {'status': status}
    errors = []
    for e in json.loads(body)['errors']:
        row = [e['type'], e['loc'], e['msg'], e.get('ctx')]
        if 'input' in e and e['input'] != whole and plain(e['input']):
            row.append(e['input'])
        errors.append(row)
    return {'errors': errors}


def write(name, doc):
    (HERE / name).write_text(json.dumps(doc, indent=None, separators=(',', ':')).replace('],"', '],\n"').replace('},{"', '},\n{"') + '\n')


class Table:
    def __init__(self):
        self.outcomes, self.seen, self.rows = [], {}, {}

    def add(self, shape, o):
        key = dumps(o)
        if key not in self.seen:
            self.seen[key] = len(self.outcomes)
            self.outcomes.append(o)
        self.rows.setdefault(shape, []).append(self.seen[key])

    def write(self, name, inputs):
        write(name, {'inputs': inputs, 'outcomes': self.outcomes, 'rows': self.rows})


class Point(BaseModel):
    x: int
    y: Optional[int] = None


class Deep(BaseModel):
    point: Point
    points: list[Point] = []


class Allow(BaseModel):
    model_config = ConfigDict(extra='allow')
    x: int


class Strict(BaseModel):
    model_config = ConfigDict(extra='forbid')
    x: int


class Both(BaseModel):
    a: str
    b: Optional[int] = None
    c: bool = False


FIELDS = {
    'str': str, 'int': int, 'float': float, 'bool': bool, 'dict': dict, 'list': list, 'any': Any,
    'list_str': list[str], 'list_int': list[int], 'list_list': list[list[str]], 'list_dict': list[dict], 'list_opt': list[Optional[str]],
    'dict_int': dict[str, int], 'dict_list': dict[str, list[str]], 'dict_model': dict[str, Point], 'dict_any': dict[str, Any],
    'model': Point, 'deep': Deep, 'list_model': list[Point], 'allow': Allow, 'forbid': Strict,
    'literal': Literal['a', 'b', 'c'], 'literal1': Literal['a'], 'literal2': Literal['a', 'b'], 'opt_literal': (Optional[Literal['a', 'b']], None),
    'opt_str': (Optional[str], None), 'opt_int': (Optional[int], None), 'opt_float': (Optional[float], None), 'opt_bool': (Optional[bool], None),
    'opt_dict': (Optional[dict], None), 'opt_list': (Optional[list], None), 'opt_model': (Optional[Point], None),
    'opt_list_str': (Optional[list[str]], None), 'opt_dict_int': (Optional[dict[str, int]], None), 'opt_any': (Optional[Any], None),
    'null_str': Optional[str], 'null_int': Optional[int], 'null_model': Optional[Point], 'null_list_model': Optional[list[Point]],
    'def_str': (str, 'd'), 'def_int': (int, 7), 'def_bool': (bool, True), 'def_float': (float, 0.5), 'def_dict': (dict, {}), 'def_list': (list, []),
    'ge_int': (int, Field(ge=1)), 'gt_int': (int, Field(gt=1)), 'le_int': (int, Field(ge=0, le=10)), 'lt_int': (int, Field(lt=3)),
    'ge_float': (float, Field(ge=0, le=1)), 'gt_float': (float, Field(gt=0.5)),
    'min_str': (str, Field(min_length=1)), 'len_str': (str, Field(min_length=2, max_length=3)), 'max_str': (str, Field(max_length=1)),
    'pattern': (str, Field(pattern='^[a-z]+$')), 'max_list': (list[str], Field(max_length=1)), 'max_list2': (list[int], Field(max_length=2)),
    'min_list': (list[str], Field(min_length=1)), 'opt_min_str': (Optional[str], Field(None, min_length=1)),
}

VALUES = ['', 'null', 'true', 'false', '0', '1', '-1', '2', '10', '11', '1.0', '-0.0', '0.5', '1.5', '1e2', '1e-2', '1E400', '-1e999', '123456789012',
          '9007199254740993', '9223372036854775807', '9223372036854775808', '-9223372036854775808', '-9223372036854775809', '9223372036854775807.0',
          '9.3e18', '1e18', '1e30', '123456789012345678901234567890', '-123456789012345678901234567890',
          '""', '" "', '"a"', '"b"', '"ab"', '"abc"', '"abcd"', '"A"', '"é"', '"\\u00e9\\u00e9"', '"\\ud83d\\ude00"', '"😀😀"', '"\\ud800"', '"x\\udc00y"',
          '"0"', '"1"', '"5"', '" 5 "', '"+5"', '"-5"', '"--5"', '"+-5"', '"5.0"', '"5.00"', '"5.5"', '"5."', '".0"', '".5"', '"-.5"', '"1e2"', '"1E2"', '"1_000"', '"1__0"',
          '"_1"', '"1_"', '"1_0.0"', '"1.0_0"', '"0_1"', '"-1_0"', '"-_1"', '"007"', '"-0"', '"+0"', '"0x10"', '"\\u0665"', '"5\\u00a0"', '"\\u20035\\u2003"', '"\\n5\\t"', '"\\u001f5"', '"\\u00855"', '"1 0"',
          '"9223372036854775808"', '"123456789012345678901234567890"', '"1e400"', '"NaN"', '"nan"', '"inf"', '"-inf"', '"Infinity"', '"+Infinity"', '"infinit"', '"INF"', '"1d"', '"0x1p-2"', '"1_000.5"', '"1e1_0"',
          '"true"', '"True"', '"TRUE"', '"tRuE"', '"t"', '"T"', '"yes"', '"YES"', '"y"', '"on"', '"off"', '"OFF"', '"no"', '"n"', '"f"', '"false"', '" true"', '"2"', '"null"', '"None"',
          '[]', '["a"]', '["a","b"]', '["a","b","c"]', '[1]', '[1,2,3]', '["1"]', '[null]', '["a",null,1]', '[[]]', '[["a"],[1]]', '[{}]', '[{"x":1}]', '[{"x":"1","y":null}]', '[{"y":1},{"x":"q"}]', '[true]', '[1.5,"x",null]',
          '{}', '{"x":1}', '{"x":"1","y":2}', '{"x":1,"y":null}', '{"x":null}', '{"y":"z"}', '{"x":1,"z":2}', '{"z":1,"w":[1.0],"x":2}', '{"a":1}', '{"a":"1","b":true}', '{"a":"q","b":null}', '{"a":["x"],"b":[]}', '{"a":[1]}',
          '{"a":{"x":1}}', '{"a":{"x":"q"},"b":{}}', '{"x":1,"x":2}', '{"x":"q","x":2}', '{"x":2,"x":"q"}', '{"q":1,"q":2,"x":1}', '{"a":"x","a":5}', '{"a":5,"b":1,"a":"x"}', '{"\\u0078":3}', '{"":1}',
          '{"point":{"x":1}}', '{"point":{"x":1},"points":[{"x":1},{"x":2}]}', '{"point":null}', '{"point":{},"points":{}}', '{"points":[1,{"x":"a"},{"y":"b"}]}', '{"point":[],"points":null}',
          '{"_id":1,"x":1.0}', '{"x":1.5}', '{"x":true}', '{"x":[]}', ' { "x" : 1 , "y" : 2 } ']

QUERY = {
    'q_str': (str, ...), 'q_int': (int, ...), 'q_float': (float, ...), 'q_bool': (bool, ...), 'q_list': (list[str], Query(...)), 'q_list_int': (list[int], Query(...)),
    'q_opt_str': (Optional[str], None), 'q_opt_int': (Optional[int], None), 'q_opt_bool': (Optional[bool], None), 'q_opt_float': (Optional[float], None),
    'q_opt_list': (Optional[list[str]], Query(None)), 'q_opt_list_int': (Optional[list[int]], Query(None)), 'q_def_int': (int, 1), 'q_def_bool': (bool, False), 'q_def_str': (str, 'd'),
    'q_ge': (int, Query(1, ge=1)), 'q_le': (int, Query(1, ge=1, le=10)), 'q_min': (str, Query(..., min_length=1)), 'q_opt_max': (Optional[str], Query(None, max_length=2)),
    'q_literal': (Literal['a', 'b'], 'a'), 'q_opt_literal': (Optional[Literal['a', 'b']], None), 'q_null_str': (Optional[str], ...),
}
QUERIES = ['', 'v', 'v=', 'v=1', 'v=a', 'v=b', 'v=A', 'v=abc', 'v=1&v=2', 'v=1&v=x', 'v=x&v=1', 'v=&v=', 'w=1', 'V=1', 'v=0', 'v=-1', 'v=11', 'v=1.0', 'v=1.5', 'v=1_0', 'v=true', 'v=True', 'v=on', 'v=no', 'v=null',
           'v=+1', 'v=%2B1', 'v=1+', 'v=%201%20', 'v=%D9%A5', 'v=%', 'v=%zz', 'v=%4', 'v=%31', '%76=1', 'v=a%20b', 'v=a;b', 'v=1;v=2', '&&v=1&', 'v==1', '=1&v=2', 'v[]=1', 'v=[1]', 'v=1,2', 'v=9223372036854775808',
           'v=123456789012345678901234567890', 'v=1e3', 'v=nan', 'v=%C3%A9', 'v=%c3%a9%C3%A9', 'v=inf', '?v=1', 'v=1?v=2', 'v=%00', 'v=%2', 'v+=1', 'v =1']

PATHS = ['1', '0', '-1', 'x', '1.0', '1.5', ' 1', '1_0', '٥', '9223372036854775808', 'true', 'a b', 'é']
HEADERS = [[], ['1'], ['x'], [''], ['1', '2'], ['x', '1'], [' 1'], ['true']]
COOKIES = [[], ['v=1'], ['v=x'], ['v='], ['v=1; v=2'], ['a=1; v=3'], ['v="4"'], ['v="a b"'], ['v'], ['v=1=2'], ['V=1']]

BODIES_OF = {
    'model': (Both, ...), 'opt_model': (Optional[Both], None), 'dict': (dict, ...), 'opt_dict': (Optional[dict], None), 'list_model': (list[Both], ...), 'list_str': (list[str], ...),
    'opt_list': (Optional[list[str]], None), 'forbid': (Strict, ...), 'allow': (Allow, ...), 'all_opt': (create_model('AllOpt', a=(Optional[str], None), b=(Optional[int], None)), ...),
    'dict_int': (dict[str, int], ...), 'any': (Any, Body(...)),
}
OK = '{"a":"x","b":1}'
BODIES = [[None, ''], ['application/json', ''], ['application/json', ' '], ['application/json', 'null'], ['application/json', ' null\n'], ['application/json', '{}'], ['application/json', OK],
          ['application/json', '{"a":1,"b":"x","c":"q"}'], ['application/json', '{"b":null,"c":null}'], ['application/json', '[]'], ['application/json', '[{}]'], ['application/json', '[' + OK + ',1,{"a":2}]'],
          ['application/json', '["a"]'], ['application/json', '"a"'], ['application/json', '""'], ['application/json', '1'], ['application/json', '0'], ['application/json', 'true'], ['application/json', 'false'], ['application/json', '1.5'],
          ['application/json', '{"x":1,"a":2}'], ['application/json', '{"x":"1"}'], ['application/json', '{"a":null}'], ['application/json', '{"a":"x","b":""}'], ['application/json', '\ufeff' + OK], ['application/json', '\ufeff'],
          ['application/json', '{"a":"x"'], ['application/json', OK + '}'], ['application/json', '{"a":"\\ud800"}'], ['application/json', '{"a":"x","a":"y"}'], ['application/json', '{"form":' + OK + '}'], ['application/json', '{"form":{},"n":"x"}'],
          ['application/json', '{"form":null,"n":null}'], ['application/json', '{"form":' + OK + ',"n":3,"tags":["a"],"flag":"yes"}'], ['application/json', '{"n":3,"tags":{},"flag":"maybe"}'], ['application/json', '[' * 500 + ']' * 500],
          ['application/json', '[' * 3000 + ']' * 3000], ['application/json', '{"a":' * 400 + '1' + '}' * 400],
          [None, OK], ['text/plain', OK], ['', OK], ['application/x-www-form-urlencoded', 'a=x&b=1'], ['multipart/form-data; boundary=x', '--x--'], ['application/json; charset=utf-8', OK], ['application/json;charset=latin-1', OK], ['APPLICATION/JSON', OK],
          ['application/vnd.api+json', OK], ['application/problem+json; a=b', OK], ['application/jsonx', OK], ['text/json', OK], [' application/json ', OK], ['application/json, text/plain', OK], ['application / json', OK], ['application/json/x', OK], ['application', OK],
          ['json', OK], ['application/+json', OK], ['application/octet-stream', 'null'], ['text/plain', '{'], ['application/json', '{'], [None, '{']]

def part(name, value, filename=None, kind=None, more=''):
    name = '' if name is None else f'; name="{name}"'
    filename = '' if filename is None else f'; filename="{filename}"'
    return f'--b\r\nContent-Disposition: form-data{name}{filename}\r\n' + (f'Content-Type: {kind}\r\n' if kind else '') + more + f'\r\n{value}\r\n'


MULTI = 'multipart/form-data; boundary=b'
URLENC = 'application/x-www-form-urlencoded'
FILE = part('file', 'hello', 'a.txt', 'text/plain')
FORMS = [[None, ''], [MULTI, ''], [MULTI, '--b--\r\n'], [MULTI, FILE + '--b--\r\n'], [MULTI, FILE + part('note', 'x') + part('n', '3') + '--b--\r\n'], [MULTI, FILE + part('note', '') + part('n', '') + '--b--\r\n'],
         [MULTI, part('file', 'text') + part('n', 'x') + '--b--\r\n'], [MULTI, part('file', '') + '--b--\r\n'], [MULTI, part('file', '', '', 'application/octet-stream') + '--b--\r\n'], [MULTI, FILE + part('file', 'second', 'b.bin') + part('n', '1') + part('n', '2') + '--b--\r\n'],
         [MULTI, part('note', 'é') + part('note', '2') + part('n', '5') + '--b--\r\n'], [MULTI, part('files', 'x', 'x.txt') + part('files', 'text') + '--b--\r\n'], [MULTI, part('file', 'x', 'dir/é.txt') + '--b--\r\n'], [MULTI, part('n', '2', 'n.txt') + FILE + '--b--\r\n'],
         [MULTI, part(None, 'x') + '--b--\r\n'], ['multipart/form-data', FILE + '--b--\r\n'], [MULTI, 'junk'], ['multipart/form-data; boundary="b"', FILE + '--b--\r\n'], ['Multipart/Form-Data; boundary=b', FILE + '--b--\r\n'], [MULTI, part('note', 'y' * (1 << 20) + 'y') + '--b--\r\n'],
         [URLENC, 'n=3&note=a+b%C3%A9'], [URLENC, 'n=&note='], [URLENC, 'n=1&n=2&file=x&files=1&files=2'], [URLENC, ''], [URLENC + '; charset=utf-8', 'n=7;note=z'], [URLENC, 'n=%zz'], ['application/json', '{"n":1}'], [None, 'n=1'], [URLENC, 'note=' + 'y' * (1 << 20)]]

SYNTAX_BASE = ' {"a": [1, -2.5e+3, true, null, "x\\n\\u00e9é😀", {}, []], "b": {"c": false}} '
SYNTAX = ['', ' ', 'nul', 'tru', 'True', 'None', 'NaN', 'nan', 'Infinity', '-Infinity', '+1', '01', '-', '-a', '1.', '.5', '1e', '1e+', '1.e3', '0x1', '1 2', '"', '"\\', '"\\x"', '"\\u', '"\\u12"', '"\\u12G4"', '"\\ud800', '"\\ud800\\u"', '"\\ud800\\uzzzz"', '"\\ud800\\u0041"', '"\n"', '"\t"', '"\x00"', '"\x7f"',
          "'a'", '{', '{"a"', '{"a"}', '{"a":', '{"a":}', '{"a":1', '{"a":1,', '{"a":1,}', '{"a":1 "b"', '{,}', '{a:1}', '{1:2}', "{'a':1}", '{"a":1}}', '[', '[1', '[1,', '[1,]', '[,]', '[1 2]', '[1}', '[}', '{]', ']', '}', ',', ':', '[1,,2]', '{"a"::1}', '{"a":1,,}', '{"a" 1}',
          '// x', '/* */ 1', '1 // x', '\ufeff1', '\u00a01', '\u20281', '{"a":1}\x00', '\x0c1', '\x0b1', '[NaN, -Infinity, Infinity]', '[NaNx]', '[-Inf]', '"é', '"é\\q"', 'é', '😀', '["😀",]', '["😀" x]', '{"é":"😀" 1}', '-', '-0', '-01', '00', '1a', '1.5.5', '1e5e', '"a""b"', '[1]x', 'nullx', 'truefalse', '"\\u-123"', '"\\u 123"', '"\\u+123"', '"\\u0_12"', '{"a":"\\ud83d\\ude00",}']


async def main():
    fields = Table()
    for name, spec in FIELDS.items():
        model = create_model('M_' + name, v=spec if isinstance(spec, tuple) else (spec, ...))

        @app.post('/f/' + name)
        async def field(form: model):
            return Response(dumps(form.model_dump()['v']))

        for v in VALUES:
            body = '{}' if v == '' else '{"v":' + v + '}'
            try:
                whole = json.loads(v) if v else {}
            except ValueError:
                whole = ...
            fields.add(name, outcome(*await call('POST', '/f/' + name, headers=[(b'content-type', b'application/json')], body=body.encode()), whole))
    fields.write('fields.json', VALUES)

    query = Table()
    for name, (typ, default) in QUERY.items():
        if default is ...:
            async def q(v: typ):
                return Response(dumps(v))
        else:
            async def q(v: typ = default):
                return Response(dumps(v))
        app.get('/q/' + name)(q)
        for text in QUERIES:
            query.add(name, outcome(*await call('GET', '/q/' + name, query=text.encode())))
    query.write('query.json', QUERIES)

    path, header, cookie = Table(), Table(), Table()
    for name, typ in {'int': int, 'str': str, 'float': float, 'bool': bool}.items():
        @app.get('/p/' + name + '/{v}')
        async def p(v: typ):
            return Response(dumps(v))

        for text in PATHS:
            path.add(name, outcome(*await call('GET', f'/p/{name}/{text}')))
    for name, typ in {'int': (int, ...), 'str': (str, ...), 'opt_int': (Optional[int], None), 'opt_str': (Optional[str], None)}.items():
        @app.get('/h/' + name)
        async def h(v: typ[0] = Header(typ[1], alias='v')):
            return Response(dumps(v))

        @app.get('/c/' + name)
        async def c(v: typ[0] = Cookie(typ[1], alias='v')):
            return Response(dumps(v))

        for values in HEADERS:
            header.add(name, outcome(*await call('GET', '/h/' + name, headers=[(b'v', v.encode()) for v in values])))
        for values in COOKIES:
            cookie.add(name, outcome(*await call('GET', '/c/' + name, headers=[(b'cookie', v.encode()) for v in values])))
    path.write('path.json', PATHS)
    header.write('header.json', HEADERS)
    cookie.write('cookie.json', COOKIES)

    bodies = Table()
    for name, (typ, default) in BODIES_OF.items():
        if default is ...:
            async def b(form: typ):
                return Response(dumps(jsonable_encoder(form)))
        else:
            async def b(form: typ = default):
                return Response(dumps(jsonable_encoder(form)))
        app.post('/b/' + name)(b)

    @app.post('/b/embed')
    async def embed(form: Both, n: int = Body(...), tags: Optional[list[str]] = Body(None), flag: bool = Body(False)):
        return Response(dumps({'form': form.model_dump(), 'n': n, 'tags': tags, 'flag': flag}))

    @app.post('/b/embed_opt')
    async def embed_opt(n: int = Body(7), form: Optional[Both] = Body(None)):
        return Response(dumps({'n': n, 'form': form and form.model_dump()}))

    @app.post('/b/embed_one')
    async def embed_one(n: int = Body(..., embed=True)):
        return Response(dumps({'n': n}))

    for name in [*BODIES_OF, 'embed', 'embed_opt', 'embed_one']:
        for ctype, body in BODIES:
            headers = [] if ctype is None else [(b'content-type', ctype.encode())]
            bodies.add(name, outcome(*await call('POST', '/b/' + name, headers=headers, body=body.encode())))
    bodies.write('bodies.json', BODIES)

    def shown(f):
        return f and {'name': f.filename.rsplit('/', 1)[-1], 'type': f.content_type, 'size': f.size, 'text': f.file.read().decode()}

    @app.post('/m/file')
    async def m_file(file: UploadFile = File(...), note: Optional[str] = Form(None), n: int = Form(7)):
        return Response(dumps({'file': shown(file), 'note': note, 'n': n}))

    @app.post('/m/opt')
    async def m_opt(file: Optional[UploadFile] = File(None), n: int = Form(...)):
        return Response(dumps({'file': shown(file), 'n': n}))

    @app.post('/m/list')
    async def m_list(files: list[UploadFile] = File(...)):
        return Response(dumps({'files': [shown(f) for f in files]}))

    @app.post('/m/text')
    async def m_text(n: int = Form(...), note: str = Form('d')):
        return Response(dumps({'n': n, 'note': note}))

    forms = Table()
    for name in ['file', 'opt', 'list', 'text']:
        for ctype, body in FORMS:
            headers = [] if ctype is None else [(b'content-type', ctype.encode())]
            o = outcome(*await call('POST', '/m/' + name, headers=headers, body=body.encode()))
            if o.get('status', 0) >= 400:
                o['detail'] = json.loads((await call('POST', '/m/' + name, headers=headers, body=body.encode()))[1])['detail']
            forms.add(name, o)
    forms.write('forms.json', [[c, b.replace('y' * (1 << 20), '<1MiB>')] for c, b in FORMS])

    texts = SYNTAX + [SYNTAX_BASE[:i] for i in range(len(SYNTAX_BASE))] + [SYNTAX_BASE[:i] + c + SYNTAX_BASE[i + 1:] for i in range(len(SYNTAX_BASE)) for c in '"}],:x\\']
    rows = []
    for t in texts:
        try:
            json.loads(t.encode())
            rows.append([t])
        except json.JSONDecodeError as e:
            rows.append([t, e.pos, e.msg])
    (HERE / 'syntax.json').write_text('[\n' + ',\n'.join(map(dumps, rows)) + '\n]\n')


asyncio.run(main())
