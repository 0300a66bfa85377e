#!/usr/bin/env python3
"""Writes rules/kith.yml, tests/alerts.yml and the dashboards from the tables below, so that an alert, its unit
tests, its runbook and its panels cannot drift apart. The output is committed: nobody needs this to run them.

    deploy/observability/make.py            writes
    deploy/observability/make.py --check    says what would change, exit 1 when anything would
"""
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
RUNBOOKS = "https://github.com/kith/kith/blob/main/docs/runbooks"
SEARCH = 'http_route=~"/v1/search|/v1/posts/{id}/similar"'
WINDOWS = ["5m", "30m", "1h", "6h", "3d"]

# ---- recording rules ----

RECORD = []
for w in WINDOWS:
    RECORD += [
        (f"kith:search_errors:ratio_rate{w}",
         f'(sum by (instance) (rate(http_server_request_duration_seconds_count{{{SEARCH},http_response_status_code=~"5.."}}[{w}])) or sum by (instance) (rate(http_server_request_duration_seconds_count{{{SEARCH}}}[{w}])) * 0)'
         f" / sum by (instance) (rate(http_server_request_duration_seconds_count{{{SEARCH}}}[{w}]))"),
        (f"kith:search_slow:ratio_rate{w}",
         f'1 - sum by (instance) (rate(vector_search_duration_seconds_bucket{{le="0.05"}}[{w}]))'
         f" / sum by (instance) (rate(vector_search_duration_seconds_count[{w}]))")]
RECORD += [
    ("kith:searches:rate5m", "sum by (instance) (rate(vector_search_duration_seconds_count[5m]))"),
    ("kith:search_seconds:p95_5m",
     "histogram_quantile(0.95, sum by (instance, le) (rate(vector_search_duration_seconds_bucket[5m])))"),
    ("kith:search_seconds:p99_5m",
     "histogram_quantile(0.99, sum by (instance, le) (rate(vector_search_duration_seconds_bucket[5m])))"),
    ("kith:zero_results:ratio_rate1h",
     'sum by (instance) (rate(kith_searches_total{outcome="zero"}[1h])) / sum by (instance) (rate(kith_searches_total[1h]))'),
    ("kith:embed_failures:ratio_rate10m",
     'sum by (instance, provider) (rate(kith_embed_requests_total{outcome="error"}[10m]))'
     " / sum by (instance, provider) (rate(kith_embed_requests_total[10m]))"),
    ("kith:index_memory:bytes", "sum by (instance) (kith_index_memory_bytes)"),
    ("kith:index_memory:ratio", "kith:index_memory:bytes / on (instance) kith_index_memory_limit_bytes"),
    ("kith:index_full:days",
     "(kith_index_memory_limit_bytes - on (instance) kith:index_memory:bytes)"
     " / (clamp_min(deriv(kith:index_memory:bytes[6h]), 1) * 86400)"),
]


def burn(kind, short, long, factor, budget):
    rate = f"kith:search_{kind}:ratio_rate"
    return f"{rate}{short} > {factor} * {budget} and {rate}{long} > {factor} * {budget}"


class Alert:
    """fire: {series: [value at the start, step a minute]} that makes it fire; calm: what ends it."""

    def __init__(self, name, expr, wait, severity, summary, description, board, fire, calm, minutes=30, slo=None):
        self.__dict__.update(locals())


I = 'instance="k:1",job="kith"'
HTTP = 'http_server_request_duration_seconds_count{%s,http_route="/v1/search",http_response_status_code="%d"}'
OK_, BAD = HTTP % (I, 200), HTTP % (I, 500)
FAST = 'vector_search_duration_seconds_bucket{%s,le="0.05"}' % I
ALL = "vector_search_duration_seconds_count{%s}" % I


def gauge(name, labels=""):
    return "%s{%s%s}" % (name, I, "," + labels if labels else "")


def slo(kind, name, what, budget, bad, good):
    out = []
    for suffix, short, long, factor, wait, severity, minutes in [
            ("Fast", "5m", "1h", 14.4, "2m", "page", 90), ("Slow", "30m", "6h", 6, "15m", "page", 420),
            ("Ticket", "6h", "3d", 1, "1h", "ticket", 4500)]:
        out.append(Alert(
            f"KithSearch{name}Burn{suffix}", burn(kind, short, long, factor, budget), wait, severity,
            f"Searches on {{{{ $labels.instance }}}} {what}: the month's budget burns {factor}x too fast",
            f"Over {short} and {long} the share of bad searches was above {factor} x {budget}.", "search",
            bad, good, minutes, slo=f"search-{kind}"))
    return out


ALERTS = slo("errors", "Errors", "fail", 0.001, {OK_: (0, 50), BAD: (0, 50)}, {OK_: (0, 100), BAD: (0, 0)})
ALERTS += slo("slow", "Slow", "take more than 50 ms", 0.05, {FAST: (0, 5), ALL: (0, 100)}, {FAST: (0, 100), ALL: (0, 100)})
ALERTS += [
    Alert("KithDown", 'up{job="kith"} == 0', "1m", "page", "{{ $labels.instance }} does not answer",
          "The scrape of /metrics failed for a minute.", "overview",
          {gauge("up"): (0, 0)}, {gauge("up"): (1, 0)}),
    Alert("KithSheddingLoad", "rate(kith_http_shed_total[5m]) > 1", "2m", "page",
          "{{ $labels.instance }} turns requests away", "More than one request a second got 503 for want of room.",
          "overview", {gauge("kith_http_shed_total"): (0, 600)}, {gauge("kith_http_shed_total"): (0, 0)}),
    Alert("KithIndexMemoryHigh", "kith:index_memory:ratio > 0.85", "5m", "page",
          "The index of {{ $labels.instance }} fills its memory",
          "{{ $value | humanizePercentage }} of what it may use. New posts fail when it is full.", "index",
          {gauge("kith_index_memory_bytes", 'part="vectors"'): (90, 0), gauge("kith_index_memory_limit_bytes"): (100, 0)},
          {gauge("kith_index_memory_bytes", 'part="vectors"'): (50, 0), gauge("kith_index_memory_limit_bytes"): (100, 0)}),
    Alert("KithIndexFullSoon", "kith:index_full:days < 7", "1h", "ticket",
          "The index of {{ $labels.instance }} is full in {{ $value | humanize }} days",
          "At the growth of the last six hours.", "index",
          {gauge("kith_index_memory_bytes", 'part="vectors"'): (1e9, 1e8), gauge("kith_index_memory_limit_bytes"): (1e12, 0)},
          {gauge("kith_index_memory_bytes", 'part="vectors"'): (1e9, 0), gauge("kith_index_memory_limit_bytes"): (1e12, 0)}, 480),
    Alert("KithBreakerOpen", "kith_breaker_state == 2", "1m", "page",
          "The breaker of {{ $labels.provider }} ({{ $labels.side }}) is open on {{ $labels.instance }}",
          "Queries are answered from cached vectors or words; new posts wait for a vector.", "embeddings",
          {gauge("kith_breaker_state", 'provider="vertex",side="query"'): (2, 0)}, {gauge("kith_breaker_state", 'provider="vertex",side="query"'): (0, 0)}),
    Alert("KithEmbedFailing", "kith:embed_failures:ratio_rate10m > 0.1", "5m", "page",
          "Embeddings of {{ $labels.provider }} fail on {{ $labels.instance }}",
          "{{ $value | humanizePercentage }} of the calls of ten minutes.", "embeddings",
          {gauge("kith_embed_requests_total", 'provider="vertex",outcome="error"'): (0, 30), gauge("kith_embed_requests_total", 'provider="vertex",outcome="ok"'): (0, 30)},
          {gauge("kith_embed_requests_total", 'provider="vertex",outcome="error"'): (0, 0), gauge("kith_embed_requests_total", 'provider="vertex",outcome="ok"'): (0, 30)}),
    Alert("KithEmbedBacklog", "kith_embed_oldest_pending_seconds > 600", "5m", "ticket",
          "Posts wait for embeddings on {{ $labels.instance }}",
          "Texts have waited {{ $value | humanizeDuration }} at least: they are found by words only.", "embeddings",
          {gauge("kith_embed_oldest_pending_seconds"): (900, 60)}, {gauge("kith_embed_oldest_pending_seconds"): (0, 0)}),
    Alert("KithFoldLag", 'kith_fold_lag_seconds{fold!="embed"} > 30', "2m", "page",
          "The fold {{ $labels.fold }} of {{ $labels.instance }} is behind",
          "By {{ $value | humanizeDuration }}: writes are safe but not seen.", "journal",
          {gauge("kith_fold_lag_seconds", 'fold="store"'): (60, 60)}, {gauge("kith_fold_lag_seconds", 'fold="store"'): (0, 0)}),
    Alert("KithDiskSlow",
          "histogram_quantile(0.99, sum by (instance, le) (rate(kith_journal_fsync_duration_seconds_bucket[5m]))) > 0.2", "5m",
          "page", "The disk of {{ $labels.instance }} is slow",
          "The 99th percentile of the journal's syncs is {{ $value | humanizeDuration }}: writes wait as long.", "journal",
          {gauge("kith_journal_fsync_duration_seconds_bucket", 'le="0.2"'): (0, 0), gauge("kith_journal_fsync_duration_seconds_bucket", 'le="0.4"'): (0, 60), gauge("kith_journal_fsync_duration_seconds_bucket", 'le="+Inf"'): (0, 60)},
          {gauge("kith_journal_fsync_duration_seconds_bucket", 'le="0.2"'): (0, 60), gauge("kith_journal_fsync_duration_seconds_bucket", 'le="0.4"'): (0, 60), gauge("kith_journal_fsync_duration_seconds_bucket", 'le="+Inf"'): (0, 60)}),
    Alert("KithJournalStopped", "kith_journal_stopped == 1", "0m", "page",
          "The journal of {{ $labels.instance }} takes no more writes",
          "A write or sync failed; after that nothing is promised until the process is started again.", "journal",
          {gauge("kith_journal_stopped"): (1, 0)}, {gauge("kith_journal_stopped"): (0, 0)}),
    Alert("KithJournalChainBroken", "kith_journal_chain_problems > 0", "0m", "page",
          "The journal's chain is broken on {{ $labels.instance }}",
          "{{ $value }} places where records are damaged, missing or were changed.", "journal",
          {gauge("kith_journal_chain_problems"): (2, 0)}, {gauge("kith_journal_chain_problems"): (0, 0)}),
    Alert("KithSnapshotMissing", "kith_snapshot_present == 0", "5m", "ticket",
          "The index snapshot of {{ $labels.instance }} is gone",
          "A restart makes the index again from the journal, which takes long.", "index",
          {gauge("kith_snapshot_present"): (0, 0)}, {gauge("kith_snapshot_present"): (1, 0)}),
    Alert("KithSnapshotOld", "kith_snapshot_age_seconds > 21600 and on (instance) kith_journal_head_lsn - on (instance) kith_snapshot_lsn > 50000",
          "10m", "ticket", "The index snapshot of {{ $labels.instance }} is old",
          "It is {{ $value | humanizeDuration }} old and lacks more than 50,000 records.", "index",
          {gauge("kith_snapshot_age_seconds"): (30000, 60), gauge("kith_journal_head_lsn"): (100000, 0), gauge("kith_snapshot_lsn"): (10, 0)},
          {gauge("kith_snapshot_age_seconds"): (10, 60), gauge("kith_journal_head_lsn"): (100000, 0), gauge("kith_snapshot_lsn"): (100000, 0)}),
    Alert("KithBackupOld", "kith_backup_age_seconds > 93600", "10m", "page",
          "The backup of {{ $labels.instance }} is old",
          "The newest one is {{ $value | humanizeDuration }} old (26 hours are allowed).", "journal",
          {gauge("kith_backup_age_seconds"): (100000, 60)}, {gauge("kith_backup_age_seconds"): (60, 60)}),
    Alert("KithRecallLow", "kith_recall_at_10_ratio < 0.9", "15m", "page",
          "The graph of {{ $labels.instance }} misses results",
          "Live recall@10 is {{ $value | humanizePercentage }} on sampled queries.", "quality",
          {gauge("kith_recall_at_10_ratio"): (0.7, 0)}, {gauge("kith_recall_at_10_ratio"): (0.98, 0)}, 60),
    Alert("KithZeroResultsJump",
          "kith:zero_results:ratio_rate1h > 0.1 and kith:zero_results:ratio_rate1h > 2 * avg_over_time(kith:zero_results:ratio_rate1h[1d] offset 1h)",
          "15m", "ticket", "More searches on {{ $labels.instance }} find nothing",
          "{{ $value | humanizePercentage }} of the last hour, more than twice the day's share.", "quality",
          {gauge("kith_searches_total", 'outcome="zero"'): "0+1x240 _ 300+60x60", gauge("kith_searches_total", 'outcome="ok"'): (0, 100)},
          {gauge("kith_searches_total", 'outcome="zero"'): (0, 1), gauge("kith_searches_total", 'outcome="ok"'): (0, 100)}, 295),
    Alert("KithQualityDropped", "kith_quality_click_mrr_ratio < 0.5 * avg_over_time(kith_quality_click_mrr_ratio[1d] offset 1h)",
          "30m", "ticket", "Clicks on {{ $labels.instance }} go further down",
          "The mean reciprocal rank of clicks is under half of the day's.", "quality",
          {gauge("kith_quality_click_mrr_ratio"): "0.5+0x300 0.1+0x100"}, {gauge("kith_quality_click_mrr_ratio"): (0.5, 0)}, 355),
    Alert("KithScoreDrift", "kith_quality_score_drift > 0.25", "1h", "ticket",
          "Scores on {{ $labels.instance }} are not what they were",
          "Population stability index {{ $value | humanize }} against the reference: another model, other posts, or other queries.",
          "quality", {gauge("kith_quality_score_drift"): (0.5, 0)}, {gauge("kith_quality_score_drift"): (0.02, 0)}, 90),
    Alert("KithAnswersDegraded",
          "sum by (instance) (rate(kith_search_degraded_total[10m])) / sum by (instance) (rate(kith_searches_total[10m])) > 0.01", "10m",
          "ticket", "Answers of {{ $labels.instance }} are degraded",
          "{{ $value | humanizePercentage }} were answered without the query's own vector.", "search",
          {gauge("kith_search_degraded_total", 'how="words_only"'): (0, 10), gauge("kith_searches_total", 'outcome="ok"'): (0, 100)},
          {gauge("kith_search_degraded_total", 'how="words_only"'): (0, 0), gauge("kith_searches_total", 'outcome="ok"'): (0, 100)}, 45),
    Alert("KithTracesDropped", 'rate(kith_otlp_spans_total{result="dropped"}[10m]) > 0', "15m", "ticket",
          "Traces of {{ $labels.instance }} are dropped", "The collector is down, slow, or refuses them.", "overview",
          {gauge("kith_otlp_spans_total", 'result="dropped"'): (0, 60)}, {gauge("kith_otlp_spans_total", 'result="dropped"'): (0, 0)}, 45),
]


def q(s):
    return "'" + s.replace("'", "''") + "'"


def rules():
    out = ["# Made by make.py: change it there.", "groups:", "  - name: kith-recording", "    interval: 15s", "    rules:"]
    for name, expr in RECORD:
        out += [f"      - record: {name}", f"        expr: {q(expr)}"]
    out += ["  - name: kith-alerts", "    interval: 15s", "    rules:"]
    for a in ALERTS:
        out += [f"      - alert: {a.name}", f"        expr: {q(a.expr)}", f"        for: {a.wait}",
                f"        labels: {{severity: {a.severity}" + (f", slo: {a.slo}" if a.slo else "") + "}",
                "        annotations:", f"          summary: {q(a.summary)}", f"          description: {q(a.description)}",
                f"          runbook_url: {RUNBOOKS}/{a.name}.md", f"          dashboard_url: /d/kith-{a.board}"]
    return "\n".join(out) + "\n"


def tests(long):
    """Each alert fires on bad series, and on good ones does not. Those that look far back are evaluated less often."""
    out = ["# Made by make.py: change it there.", "rule_files:", "  - ../rules/kith.yml",
           f"evaluation_interval: {'4m' if long else '1m'}", "tests:"]

    def series(values, minutes):
        rows = []
        for name, v in values.items():
            text = v if isinstance(v, str) else f"{v[0]:g}{v[1]:+g}x{minutes}"
            rows += [f"      - series: {q(name)}", f"        values: {q(text)}"]
        return rows

    for a in ALERTS:
        if (a.minutes > 100) != long:
            continue
        step = "1m" if a.minutes <= 500 else "10m"
        n = a.minutes if step == "1m" else a.minutes // 10
        for fires, values in ((True, a.fire), (False, a.calm)):
            out += [f"  - name: {a.name} {'fires' if fires else 'rests'}", f"    interval: {step}", "    input_series:"]
            out += series(values, n) + ["    promql_expr_test:", f"      - expr: 'count(ALERTS{{alertname=\"{a.name}\",alertstate=\"firing\"}}) or vector(0)'",
                                        f"        eval_time: {a.minutes}m", "        exp_samples:",
                                        f"          - value: {1 if fires else 0}"]
    if long:
        return "\n".join(out) + "\n"
    # Firing and then resolving, on one series.
    out += ["  - name: KithFoldLag resolves", "    interval: 1m", "    input_series:",
            f"      - series: {q(gauge('kith_fold_lag_seconds', 'fold=' + chr(34) + 'store' + chr(34)))}",
            "        values: '60+0x10 0+0x20'", "    promql_expr_test:"]
    for at, n in ((1, 0), (8, 1), (20, 0)):
        out += ["      - expr: 'count(ALERTS{alertname=\"KithFoldLag\",alertstate=\"firing\"}) or vector(0)'",
                f"        eval_time: {at}m", "        exp_samples:", f"          - value: {n}"]
    return "\n".join(out) + "\n"


# ---- dashboards ----

R = '{instance=~"$instance"}'


def r(extra=""):
    return '{instance=~"$instance"' + ("," + extra if extra else "") + "}"


def quantile(p, name, by="", extra=""):
    return f"histogram_quantile({p}, sum by (le{',' + by if by else ''}) (rate({name}_bucket{r(extra)}[$window])))"


def rate(name, by="", extra=""):
    inner = f"rate({name}{r(extra)}[$window])"
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"


BOARDS = {
    "overview": ("kith: overview", [
        ("Traffic: requests a second", "reqps", [(rate("http_server_request_duration_seconds_count", "http_route"), "{{http_route}}")]),
        ("Errors: share of searches", "percentunit", [("kith:search_errors:ratio_rate5m" + R, "5 m"), ("kith:search_errors:ratio_rate1h" + R, "1 h")]),
        ("Latency of searches", "s", [(quantile(0.5, "vector_search_duration_seconds"), "p50"), (quantile(0.95, "vector_search_duration_seconds"), "p95"), (quantile(0.99, "vector_search_duration_seconds"), "p99")]),
        ("Saturation: CPU", "short", [("rate(process_cpu_seconds_total" + R + "[$window])", "{{instance}}")]),
        ("Saturation: memory", "bytes", [("process_resident_memory_bytes" + R, "resident"), ("kith_heap_bytes" + R, "heap"), ("kith_index_memory_limit_bytes" + R, "limit")]),
        ("Saturation: workers", "short", [("kith_worker_queue" + R, "waiting"), ("http_server_active_requests" + R, "running"), (quantile(0.99, "kith_worker_wait_seconds"), "p99 wait, s")]),
        ("Refused", "reqps", [("rate(kith_http_shed_total" + R + "[$window])", "shed"), (rate("kith_http_refused_total", "why"), "{{why}}")]),
        ("Connections and files", "short", [("kith_http_connections" + R, "{{state}}"), ("process_open_fds" + R, "files")]),
        ("Fold lag", "s", [("kith_fold_lag_seconds" + R, "{{fold}}")]),
        ("Log lines", "short", [(rate("kith_log_lines_total", "level"), "{{level}}")]),
        ("Build", "short", [("kith_build_info" + R, "{{version}} {{space}}")]),
    ]),
    "search": ("kith: search", [
        ("Searches a second, by type", "reqps", [(rate("kith_searches_total", "query_type"), "{{query_type}}")]),
        ("Searches, by outcome", "reqps", [(rate("kith_searches_total", "outcome"), "{{outcome}}")]),
        ("Latency, by type (p95)", "s", [(quantile(0.95, "vector_search_duration_seconds", "query_type"), "{{query_type}}")]),
        ("Latency, by results (p95)", "s", [(quantile(0.95, "vector_search_duration_seconds", "result_count"), "{{result_count}}")]),
        ("Time a search, by stage", "s", [("sum by (stage) (rate(kith_search_stage_duration_seconds_sum" + R + "[$window])) / ignoring (stage) group_left sum(rate(vector_search_duration_seconds_count" + R + "[$window]))", "{{stage}}")]),
        ("Stages (p99)", "s", [(quantile(0.99, "kith_search_stage_duration_seconds", "stage"), "{{stage}}")]),
        ("Share over 50 ms", "percentunit", [("kith:search_slow:ratio_rate5m" + R, "5 m"), ("kith:search_slow:ratio_rate1h" + R, "1 h")]),
        ("Query vectors from the cache", "percentunit", [(rate("kith_query_cache_total", "", 'result="hit"') + " / " + rate("kith_query_cache_total"), "hits")]),
        ("Degraded answers", "reqps", [(rate("kith_search_degraded_total", "how"), "{{how}}")]),
        ("Reads of the store (p99)", "s", [(quantile(0.99, "kith_store_duration_seconds", "operation"), "{{operation}}")]),
    ]),
    "embeddings": ("kith: embeddings", [
        ("Calls a second", "reqps", [(rate("kith_embed_requests_total", "provider,outcome"), "{{provider}} {{outcome}}")]),
        ("Texts and tokens a second", "short", [(rate("kith_embed_texts_total", "provider"), "{{provider}} texts"), (rate("kith_embed_tokens_total", "provider"), "{{provider}} tokens")]),
        ("Time of a call (p95)", "s", [(quantile(0.95, "kith_embed_duration_seconds", "provider,task"), "{{provider}} {{task}}")]),
        ("Requests to the service", "reqps", [(rate("kith_provider_requests_total", "provider,outcome"), "{{provider}} {{outcome}}")]),
        ("Retries and limits", "reqps", [(rate("kith_provider_retries_total", "provider,result"), "retry {{result}}"), (rate("kith_rate_limited_total", "provider,by"), "limit {{by}}")]),
        ("Breakers (2: open)", "short", [("kith_breaker_state" + R, "{{provider}} {{side}}"), (rate("kith_breaker_transitions_total", "provider,side,to"), "{{side}} to {{to}}")]),
        ("Cache of vectors", "short", [(rate("kith_embed_cache_total", "result"), "{{result}}")]),
        ("Waiting and failed texts", "short", [("kith_embed_pending" + R, "waiting"), ("kith_embed_failed" + R, "failed")]),
        ("Waiting for, at least", "s", [("kith_embed_oldest_pending_seconds" + R, "oldest")]),
        ("Speed of the fold", "short", [("kith_embed_texts_per_second" + R, "texts a second")]),
    ]),
    "index": ("kith: index", [
        ("Memory, by part", "bytes", [("kith_index_memory_bytes" + R, "{{part}}")]),
        ("Memory, the former gauge", "bytes", [("faiss_index_memory_bytes" + R, "vectors")]),
        ("Share of the limit", "percentunit", [("kith:index_memory:ratio" + R, "{{instance}}")]),
        ("Growth", "binBps", [("deriv(kith:index_memory:bytes" + R + "[$window])", "{{instance}}")]),
        ("Full in days", "d", [("kith:index_full:days" + R, "{{instance}}")]),
        ("Posts and vectors", "short", [("kith_posts" + R, "posts"), ("kith_index_vectors" + R, "vectors"), ("kith_threads" + R, "threads")]),
        ("Snapshot's age", "s", [("kith_snapshot_age_seconds" + R, "{{instance}}")]),
        ("Disk, by part", "bytes", [("kith_disk_bytes" + R, "{{part}}")]),
    ]),
    "journal": ("kith: journal and folds", [
        ("Records a second", "short", [(rate("kith_journal_records_total"), "records")]),
        ("Bytes a second", "Bps", [(rate("kith_journal_appended_bytes_total"), "bytes")]),
        ("Append until durable", "s", [(quantile(0.5, "kith_journal_append_duration_seconds"), "p50"), (quantile(0.99, "kith_journal_append_duration_seconds"), "p99")]),
        ("Sync of the disk", "s", [(quantile(0.5, "kith_journal_fsync_duration_seconds"), "p50"), (quantile(0.99, "kith_journal_fsync_duration_seconds"), "p99")]),
        ("Records an append", "short", [(quantile(0.95, "kith_journal_batch_records"), "p95")]),
        ("Fold lag, time", "s", [("kith_fold_lag_seconds" + R, "{{fold}}")]),
        ("Fold lag, records", "short", [("kith_fold_lag_records" + R, "{{fold}}")]),
        ("Records a second, by fold", "short", [(rate("kith_fold_records_total", "fold"), "{{fold}}")]),
        ("Batch of a fold (p95)", "s", [(quantile(0.95, "kith_fold_batch_duration_seconds", "fold"), "{{fold}}")]),
        ("Head", "short", [("kith_journal_head_lsn" + R, "head"), ("kith_snapshot_lsn" + R, "snapshot")]),
        ("Stopped", "short", [("kith_journal_stopped" + R, "{{instance}}")]),
    ]),
    "quality": ("kith: quality", [
        ("Live recall@10", "percentunit", [("kith_recall_at_10_ratio" + R, "{{instance}}")]),
        ("Sampled hits", "short", [(rate("kith_recall_sampled_hits_total", "result"), "{{result}}")]),
        ("Searches that find nothing", "percentunit", [("kith_quality_zero_result_ratio" + R, "last searches"), ("kith:zero_results:ratio_rate1h" + R, "1 h")]),
        ("Click-through", "percentunit", [("kith_quality_click_through_ratio" + R, "first {{k}}")]),
        ("Mean reciprocal rank of clicks", "percentunit", [("kith_quality_click_mrr_ratio" + R, "{{instance}}")]),
        ("Abandoned and asked again", "percentunit", [("kith_quality_abandoned_ratio" + R, "abandoned"), ("kith_quality_reformulated_ratio" + R, "asked again")]),
        ("Interactions a second", "short", [(rate("kith_interactions_total", "action"), "{{action}}")]),
        ("Best scores", "short", [(quantile(0.5, "kith_query_best_score_permille"), "median"), (quantile(0.1, "kith_query_best_score_permille"), "lowest tenth")]),
    ]),
    "cost": ("kith: cost", [
        ("CPU seconds a search", "s", [("rate(process_cpu_seconds_total" + R + "[$window]) / on (instance) kith:searches:rate5m" + R, "{{instance}}")]),
        ("Bytes of memory a post", "bytes", [("kith:index_memory:bytes" + R + " / on (instance) kith_posts" + R, "{{instance}}")]),
        ("Bytes of disk a post", "bytes", [("sum by (instance) (kith_disk_bytes" + R + ") / on (instance) kith_posts" + R, "{{instance}}")]),
        ("Cost a day", "short", [("sum by (provider) (increase(kith_embed_cost_total" + R + "[1d]))", "{{provider}}")]),
        ("Cap on spending, used", "percentunit", [("kith_provider_spend_ratio" + R, "{{provider}}")]),
        ("Tokens a day", "short", [("sum by (provider) (increase(kith_embed_tokens_total" + R + "[1d]))", "{{provider}}")]),
        ("Traffic", "Bps", [(rate("kith_http_bytes_total", "direction"), "{{direction}}")]),
    ]),
}


def board(uid, title, panels):
    out = []
    for i, (name, unit, targets) in enumerate(panels):
        out.append({
            "id": i + 1, "type": "timeseries", "title": name,
            "datasource": {"type": "prometheus", "uid": "${datasource}"},
            "gridPos": {"x": 12 * (i % 2), "y": 8 * (i // 2), "w": 12, "h": 8},
            "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True}, "tooltip": {"mode": "multi", "sort": "desc"}},
            "links": [{"title": "Runbooks", "url": "https://github.com/kith/kith/tree/main/docs/runbooks", "targetBlank": True},
                      {"title": "Slow traces", "url": "http://${instance}/status#traces", "targetBlank": True}],
            "targets": [{"refId": chr(65 + k), "expr": e, "legendFormat": legend, "exemplar": "_bucket" in e,
                         "datasource": {"type": "prometheus", "uid": "${datasource}"}} for k, (e, legend) in enumerate(targets)]})
    variables = [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        {"name": "instance", "type": "query", "label": "Instance", "datasource": {"type": "prometheus", "uid": "${datasource}"},
         "query": {"query": "label_values(kith_build_info, instance)", "refId": "i"}, "refresh": 2, "multi": True, "includeAll": True,
         "current": {"text": "All", "value": "$__all"}},
        {"name": "window", "type": "interval", "label": "Window", "query": "1m,5m,30m,1h", "current": {"text": "5m", "value": "5m"}}]
    return {"uid": f"kith-{uid}", "title": title, "tags": ["kith"], "editable": True, "schemaVersion": 39, "version": 1, "refresh": "30s",
            "time": {"from": "now-1h", "to": "now"}, "timezone": "browser", "templating": {"list": variables},
            "annotations": {"list": [{"name": "Alerts", "enable": True, "iconColor": "red", "datasource": {"type": "prometheus", "uid": "${datasource}"},
                                      "expr": 'ALERTS{alertname=~"Kith.*",alertstate="firing"}', "titleFormat": "{{alertname}}"}]},
            "links": [{"type": "dashboards", "title": "kith", "tags": ["kith"], "asDropdown": True}], "panels": out}


def main():
    files = {"rules/kith.yml": rules(), "tests/alerts.yml": tests(False), "tests/alerts_long.yml": tests(True)}
    for uid, (title, panels) in BOARDS.items():
        files[f"dashboards/{uid}.json"] = json.dumps(board(uid, title, panels), indent=1) + "\n"
    stale = []
    for name, text in files.items():
        path = os.path.join(HERE, name)
        if os.path.exists(path) and open(path).read() == text:
            continue
        stale.append(name)
        if "--check" not in sys.argv:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            open(path, "w").write(text)
    books = os.path.join(HERE, "../../docs/runbooks")
    stale += [f"docs/runbooks/{a.name}.md is missing" for a in ALERTS if not os.path.exists(os.path.join(books, a.name + ".md"))]
    print("\n".join(stale) if stale else "nothing to change")
    sys.exit(1 if stale and "--check" in sys.argv else 0)


if __name__ == "__main__":
    main()
