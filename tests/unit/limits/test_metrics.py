"""Counters of one process: how they add up and how they are shown."""

import re

import pytest

from shared import metrics


def test_a_process_without_redis_shows_its_own_numbers():
    metrics.count("limits_local_total")
    metrics.count("limits_local_total", 2)
    assert metrics.render() == "# TYPE limits_local_total counter\nlimits_local_total 3\n"


def test_numbers_stay_while_redis_stays_away():
    metrics.count("limits_local_total")
    assert metrics.render() == metrics.render()


def test_each_set_of_labels_is_a_series_of_one_family_whatever_their_order():
    metrics.count("opened_total", a="1", b="2")
    metrics.count("opened_total", b="2", a="1")
    metrics.count("opened_total", a="3", b="2")
    assert metrics.render() == (
        '# TYPE opened_total counter\nopened_total{a="1",b="2"} 2\nopened_total{a="3",b="2"} 1\n'
    )


def test_families_are_not_mixed_when_one_name_begins_another():
    metrics.count("a_total", x="1")
    metrics.count("a_b_total")
    metrics.count("a_total")
    lines = metrics.render().splitlines()
    assert [line for line in lines if line.startswith("#")] == ["# TYPE a_b_total counter", "# TYPE a_total counter"]
    assert lines[3:] == ["a_total 1", 'a_total{x="1"} 1']


def test_a_value_of_a_label_cannot_break_out_of_its_quotes():
    metrics.count("refused_total", why='a"b\\c\nd')
    assert 'refused_total{why="a\\"b\\\\c\\nd"} 1' in metrics.render()


def test_fractions_are_shown_whole():
    metrics.count("waited_total", 0.25)
    metrics.count("waited_total", 0.5)
    assert "waited_total 0.75" in metrics.render()


@pytest.mark.parametrize("name", ["Upper_total", "no_suffix", "a b_total", "1_total", "x{y}_total"])
def test_a_name_that_could_not_be_shown_is_refused(name):
    with pytest.raises(ValueError, match=re.escape(name)):
        metrics.count(name)


def test_a_label_that_could_not_be_shown_is_refused():
    with pytest.raises(ValueError, match="Bad-label"):
        metrics.count("a_total", 1, **{"Bad-label": "x"})


def test_a_label_with_ever_new_values_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(metrics, "MAX_SERIES", 10)
    for number in range(100):
        metrics.count("asked_total", who=str(number))
    lines = [line for line in metrics.render().splitlines() if not line.startswith("#")]
    assert len(lines) == 11
    assert f"{metrics.DROPPED} 90" in lines


def test_nothing_counted_is_an_empty_page():
    assert metrics.render() == ""
