"""The FilterSets: strict with Python values, and at home in a view of the user's own."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse, QueryDict
from django.test import RequestFactory, override_settings
from django_filters.views import FilterView

from asm_store.exceptions import InvalidStatus, QueryError, StoreError
from asm_store.filters import MAX_VALUES, SessionFilterSet, StrictFilterSet
from asm_store.models import Run, Session
from asm_store.test import make_run, make_session

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
EAST = timezone(timedelta(hours=2))


def checked(kind: type[StrictFilterSet] = SessionFilterSet, /, **values: Any) -> dict[str, Any]:
    """The values that restrict something, as the filters took them."""
    found = kind(values).checked()
    return {name: value for name, value in found.items() if value is not None}


class TestPythonValues:
    @pytest.mark.parametrize(
        ("given", "taken"),
        [
            ({}, {}),
            ({"agent_id": None, "status": None, "tags": None, "include_deleted": None}, {}),
            ({"agent_id": " a "}, {"agent_id": " a "}),
            ({"agent_id": ""}, {"agent_id": ""}),
            ({"agent_id": "null"}, {"agent_id": "null"}),
            ({"status": "active"}, {"status": ("active",)}),
            ({"status": Session.Status.ACTIVE}, {"status": ("active",)}),
            ({"status": ["active", "paused", "active"]}, {"status": ("active", "paused")}),
            ({"status": []}, {"status": ()}),
            ({"status": ()}, {"status": ()}),
            ({"status": (name for name in ["active"])}, {"status": ("active",)}),
            ({"provider": "claude"}, {"provider": ("claude",)}),
            ({"provider": {"claude"}}, {"provider": ("claude",)}),
            ({"provider": []}, {"provider": ()}),
            ({"tags": []}, {"tags": ()}),
            ({"tags": ["a", "", "a"]}, {"tags": ("a", "")}),
            ({"created_after": NOON}, {"created_after": NOON}),
            ({"created_before": NOON.astimezone(EAST)}, {"created_before": NOON}),
            ({"include_deleted": True}, {"include_deleted": True}),
            ({"include_deleted": False}, {"include_deleted": False}),
        ],
    )
    def test_takes(self, given: dict[str, Any], taken: dict[str, Any]) -> None:
        assert checked(**given) == taken

    @pytest.mark.parametrize(
        "given",
        [
            {"agent_id": 5},
            {"agent_id": b"a"},
            {"agent_id": ["a"]},
            {"agent_id": True},
            {"agent_id": "a\0"},
            {"agent_id": "\ud800"},
            {"provider": 5},
            {"provider": ["a", 5]},
            {"provider": ["a", None]},
            {"provider": {"a": 1}},
            {"provider": b"a"},
            {"tags": "pinned"},
            {"tags": 5},
            {"tags": [5]},
            {"tags": [["a"]]},
            {"tags": ["\udfff"]},
            {"tags": {"a": 1}},
            {"created_after": datetime(2026, 3, 1)},  # noqa: DTZ001
            {"created_after": date(2026, 3, 1)},
            {"created_after": "2026-03-01T12:00:00+00:00"},
            {"created_after": 0},
            {"created_after": datetime(999, 12, 31, 23, 59, tzinfo=UTC)},
            {"created_before": datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))},
            {"created_before": datetime.min.replace(tzinfo=EAST)},
            {"include_deleted": "true"},
            {"include_deleted": 1},
            {"agent": "a"},
            {"agent_id__contains": "a"},
            {"page": 2},
            {"": "a"},
            {5: "a"},
            {None: "a"},
        ],
    )
    def test_refuses(self, given: dict[Any, Any]) -> None:
        with pytest.raises(QueryError) as caught:
            SessionFilterSet(given).checked()
        assert caught.value.code == "query_error"

    @pytest.mark.parametrize(
        "status", ["", "Active", "active ", "timeout", 5, ["active", "x"], [1]]
    )
    def test_refuses_an_unknown_status(self, status: Any) -> None:
        with pytest.raises((InvalidStatus, QueryError)) as caught:
            checked(status=status)
        assert caught.value.code == ("query_error" if status == 5 else "invalid_status")

    def test_a_list_may_not_be_endless(self) -> None:
        assert len(checked(tags=map(str, range(MAX_VALUES)))["tags"]) == MAX_VALUES
        with pytest.raises(QueryError, match="more than 1000"):
            checked(tags=map(str, itertools.count()))

    def test_an_unknown_name_is_named(self) -> None:
        with pytest.raises(QueryError, match="unknown filter 'agent'; known are agent_id, created"):
            checked(agent="a")


class TestRequests:
    @pytest.mark.parametrize(
        ("query", "taken"),
        [
            ("", {}),
            ("agent_id=&status=&tags=&created_after=&include_deleted=", {}),
            ("agent_id=%20a%20", {"agent_id": " a "}),
            ("status=active", {"status": ("active",)}),
            ("status=active&status=&status=paused", {"status": ("active", "paused")}),
            ("provider=a,b", {"provider": ("a,b",)}),
            ("tags=%C3%A4&tags=b", {"tags": ("ä", "b")}),
            ("created_after=2026-03-01T12:00:00Z", {"created_after": NOON}),
            ("created_after=2026-03-01T14:00:00%2B02:00", {"created_after": NOON}),
            ("include_deleted=true", {"include_deleted": True}),
            ("include_deleted=False", {"include_deleted": False}),
            ("cursor=x&limit=5&order_by=y&page=2", {}),
        ],
    )
    def test_reads(self, query: str, taken: dict[str, Any]) -> None:
        found = SessionFilterSet(QueryDict(query)).checked()
        assert {name: value for name, value in found.items() if value is not None} == taken

    @pytest.mark.parametrize(
        ("query", "field"),
        [
            ("agent_id=a&agent_id=b", "agent_id"),
            ("agent_id=a%00", "agent_id"),
            ("status=active&status=x", "status"),
            ("created_after=yesterday", "created_after"),
            ("created_after=2026-03-01", "created_after"),
            ("created_after=2026-03-01T12:00:00", "created_after"),
            ("created_after=2026-03-01T12:00:00+00:00", "created_after"),
            ("created_after=99999-01-01T00:00:00Z", "created_after"),
            ("created_after=0001-01-01T00:00:00Z", "created_after"),
            ("include_deleted=maybe", "include_deleted"),
            ("agnet_id=a", "__all__"),
            ("offset=5", "__all__"),
        ],
    )
    def test_refuses(self, query: str, field: str) -> None:
        found = SessionFilterSet(QueryDict(query))
        assert not found.is_valid()
        assert list(found.errors) == [field]
        with pytest.raises(StoreError):
            found.checked()

    def test_names_may_have_a_prefix(self) -> None:
        found = SessionFilterSet(QueryDict("s-agent_id=a&b=1"), prefix="s")
        assert found.checked()["agent_id"] == "a"
        assert not SessionFilterSet(QueryDict("s-agent=a"), prefix="s").is_valid()

    def test_the_form_shows_what_was_asked_for(self) -> None:
        query = "agent_id=%3Ca%3E&status=paused&tags=x&tags=y&include_deleted=true"
        form = SessionFilterSet(QueryDict(f"{query}&created_after=never")).form
        assert 'value="&lt;a&gt;"' in str(form["agent_id"])
        assert '<option value="paused" selected>' in str(form["status"])
        assert str(form["status"]).count("selected") == 1
        assert str(form["tags"]).count('type="text"') == 3
        assert 'value="x"' in str(form["tags"])
        assert '<option value="true" selected>' in str(form["include_deleted"])
        assert 'value="never"' in str(form["created_after"])
        assert "cannot be read" in str(form["created_after"].errors)

    def test_the_empty_form_shows_empty_fields(self) -> None:
        form = str(SessionFilterSet(QueryDict("")).form)
        assert "value=" in form
        assert "selected" not in form.replace('value="" selected', "")
        assert "None" not in form


def save(using: str, *sessions: Session) -> None:
    Session.objects.using(using).bulk_create(sessions)


def found(using: str, data: Mapping[str, Any] | None) -> list[str]:
    rows = SessionFilterSet(data, Session.objects.using(using)).qs
    return list(rows.order_by("id").values_list("id", flat=True))


def test_what_is_not_valid_finds_nothing(using: str) -> None:
    save(using, make_session(id="ses_1"))
    assert found(using, QueryDict("agent_id=assistant")) == ["ses_1"]
    assert found(using, QueryDict("agent_id=assistant&status=x")) == []
    assert found(using, QueryDict("agnet_id=assistant")) == []
    assert found(using, {"agent_id": "assistant", "created_after": "now"}) == []


def test_without_data_soft_deleted_sessions_are_left_out_too(using: str) -> None:
    save(using, make_session(id="ses_1"), make_session(id="ses_2", deleted_at=NOON))
    nothing: list[Mapping[str, Any] | None] = [None, {}, QueryDict("")]
    for data in nothing:
        assert found(using, data) == ["ses_1"]
    assert found(using, {"include_deleted": True}) == ["ses_1", "ses_2"]
    assert found(using, QueryDict("include_deleted=true")) == ["ses_1", "ses_2"]


def test_a_session_with_many_runs_of_a_provider_is_found_once(using: str) -> None:
    save(using, make_session(id="ses_1"), make_session(id="ses_2"))
    runs = [make_run("ses_1", provider=name) for name in ("claude", "claude", "codex", None)]
    Run.objects.using(using).bulk_create(runs)
    assert found(using, {"provider": ["claude", "codex"]}) == ["ses_1"]
    assert found(using, {"provider": "Claude"}) == []
    assert found(using, {"provider": []}) == []


class TeamFilterSet(SessionFilterSet):
    """As a user's project would have it: its own parameter beside the filters."""

    other_parameters = SessionFilterSet.other_parameters | {"team"}


def sessions_of_team(request: HttpRequest) -> HttpResponse:
    chosen = TeamFilterSet(request.GET, Session.objects.all(), request=request)
    if not chosen.is_valid():
        return HttpResponse(chosen.errors.as_json(), status=400)
    return HttpResponse(",".join(chosen.qs.order_by("id").values_list("id", flat=True)))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", ["ses_1", "ses_2"]),
        ("tags=a", ["ses_1"]),
        ("tags=a&page=1", ["ses_1"]),
        ("status=x", []),
        ("tag=a", []),
    ],
)
def test_in_django_filters_own_view(query: str, expected: list[str]) -> None:
    save("default", make_session(id="ses_1", tags=["a"]), make_session(id="ses_2"))
    view = FilterView.as_view(model=Session, filterset_class=SessionFilterSet, ordering="id")
    response = view(RequestFactory().get(f"/sessions?{query}"))
    assert [session.pk for session in response.context_data["object_list"]] == expected


@pytest.mark.django_db
@override_settings(ALLOWED_HOSTS=["*"])
def test_in_a_view_of_the_users_own() -> None:
    save("default", make_session(id="ses_1", tags=["a"]), make_session(id="ses_2"))

    def get(query: str) -> HttpResponse:
        return sessions_of_team(RequestFactory().get(f"/sessions?{query}"))

    assert get("team=x&page=1&tags=a").content == b"ses_1"
    assert get("team=x").content == b"ses_1,ses_2"
    assert get("teem=x").status_code == 400
    assert b"unknown filter" in get("teem=x").content
