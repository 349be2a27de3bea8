"""A request finds its one route, or learns why there is none."""

import pytest

from shared.errors import MethodNotAllowed, NotFound
from shared.http.routes import Call, Empty, Route, Routes, Who
from tests.unit.shared.exchange import NOW


def routes(*declared: tuple[str, str]) -> Routes:
    made = Routes("things")
    for method, path in declared:

        def handler(call):
            """Do it."""

        getattr(made, method)(path, who=Who.ANYONE)(handler)
    return made


THINGS = routes(
    ("get", "/api/v1/things"),
    ("post", "/api/v1/things"),
    ("get", "/api/v1/things/search"),
    ("get", "/api/v1/things/{thing_id}"),
    ("delete", "/api/v1/things/{thing_id}"),
    ("get", "/api/v1/things/{thing_id}/parts/{part_id}"),
    ("get", "/api/v1/things.json"),
)


def found(method: str, path: str) -> tuple[Route, dict[str, str]]:
    return THINGS.find(method, path)


def test_a_path_and_a_method_name_one_route():
    assert found("GET", "/api/v1/things")[0].method == "GET"
    assert found("POST", "/api/v1/things")[0].method == "POST"


def test_parameters_come_out_by_their_names():
    route, parameters = found("GET", "/api/v1/things/t_1/parts/p_2")
    assert parameters == {"thing_id": "t_1", "part_id": "p_2"}
    assert route.parameters == ["thing_id", "part_id"]


def test_the_first_route_that_fits_is_taken():
    assert found("GET", "/api/v1/things/search")[0].path == "/api/v1/things/search"


@pytest.mark.parametrize(
    "path", ["/", "", "/api/v1/thing", "/api/v1/things/", "/api/v1/things/a/b", "/x/api/v1/things", "/api/v1/things\n"]
)
def test_an_unknown_path_is_not_found(path):
    with pytest.raises(NotFound):
        found("GET", path)


def test_a_dot_in_a_path_is_a_dot():
    assert found("GET", "/api/v1/things.json")[0].path == "/api/v1/things.json"
    with pytest.raises(NotFound):
        found("GET", "/api/v1/thingsxjson")


def test_a_method_that_a_path_does_not_have_is_told_those_it_has():
    with pytest.raises(MethodNotAllowed) as refusal:
        found("PATCH", "/api/v1/things")
    assert refusal.value.details["allow"] == "GET, POST"


def test_another_path_of_the_same_shape_does_not_lend_its_methods():
    with pytest.raises(MethodNotAllowed) as refusal:
        found("DELETE", "/api/v1/things")
    assert refusal.value.details["allow"] == "GET, POST"


@pytest.mark.parametrize("method", ["GET", "DELETE", "PATCH"])
@pytest.mark.parametrize("unsafe", ["..", ".", "a b", "__name__", "\x00", "x" * 129, "ä", "%2e"])
def test_an_unsafe_id_is_not_found_whatever_the_method(method, unsafe):
    with pytest.raises(NotFound):
        found(method, f"/api/v1/things/{unsafe}")


def test_a_long_path_is_not_repeated_in_whole():
    with pytest.raises(NotFound) as refusal:
        found("GET", "/" + "x" * 10_000)
    assert len(refusal.value.message) < 300


def test_a_route_without_a_docstring_is_refused():
    def silent(call): ...

    with pytest.raises(ValueError, match="GET /x needs a docstring"):
        Routes("things").get("/x", who=Who.ANYONE)(silent)


def test_a_route_must_say_who_may_call_it():
    with pytest.raises(TypeError, match="who"):
        Routes("things").get("/x")


def test_a_route_for_anyone_has_no_caller_to_ask_for():
    call = Call(body=Empty(), query=Empty(), path={}, now=NOW, wants_stream=False)
    with pytest.raises(RuntimeError):
        _ = call.caller


def test_head_finds_what_get_finds():
    assert found("HEAD", "/api/v1/things")[0] is found("GET", "/api/v1/things")[0]
