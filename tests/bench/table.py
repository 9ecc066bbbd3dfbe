"""The rows of the table, and what is asked of each. Pure."""

from __future__ import annotations

from tests.bench.bench import Sizes
from tests.bench.figures import FLOOR
from tests.bench.rows import Row

CONFD, CONSUL_TEMPLATE = "confd", "consul-template"
MIB = float(2**20)


def table(sizes: Sizes) -> list[Row]:
    """Return the rows of a run of these sizes."""
    return [
        *once(sizes),
        *scale(sizes),
        *change(sizes),
        *consul(sizes),
        *lasting(sizes),
        *large(sizes),
        *beside(sizes),
        *templates(sizes),
        *plans(),
    ]


def once(sizes: Sizes) -> list[Row]:
    etcd, consul = f"etcd.{sizes.many}x20", f"consul.{sizes.many}x20"
    made = f"one-shot, {sizes.many:,} × 20"
    warm = "A `-onetime` run whose files are in sync and whose template cache is filled, as a timer or CI runs it"
    cold = "The same without a template cache: each template is compiled"
    floor = "The floor is a Python that imports Jinja2 and click, and ends"
    return [
        Row("once", f"{made}, etcd: wall", f"once.{etcd}.wall", CONFD, 0.6, warm),
        Row("once", f"{made}, etcd: CPU", f"once.{etcd}.cpu", CONFD, 0.9, warm),
        Row("once", f"{made}, etcd, no template cache: wall", f"once-cold.{etcd}.wall", CONFD, 1.3, cold),
        Row("once", f"{made}, etcd, no template cache: CPU", f"once-cold.{etcd}.cpu", CONFD, 2.0, cold),
        Row("once-consul", f"{made}, Consul: wall", f"once.{consul}.wall", CONFD, 0.8, warm),
        Row("once-consul", f"{made}, Consul: wall", f"once.{consul}.wall", CONSUL_TEMPLATE, None, warm),
        Row("cold", "one-shot, 1 resource, environment: CPU", "cold.env.cpu", FLOOR, 1.3, floor),
        Row("cold", "one-shot, 1 resource, etcd: CPU", "cold.etcd.cpu", FLOOR, 1.5, floor),
        Row("cold", f"one-shot, {sizes.few} × 20, etcd: CPU", f"once.etcd.{sizes.few}x20.cpu", "", 0.3, warm),
    ]


def scale(sizes: Sizes) -> list[Row]:
    few, most = sizes.few, sizes.most
    further = "What each further resource costs among many, divided by what it costs among few: 1 is a straight line"
    start = (
        "From the start of the daemon, with a filled template cache and without any target, until all files are there"
    )
    memory = "Resident memory when the daemon has come to rest after its start"
    place = f"start.etcd.{most}x5"
    return [
        Row("scale", f"one-shot, CPU per resource, {most:,} ÷ {few}", "once.per-resource.cpu", "", 1.2, further),
        Row("scale", f"daemon start, CPU per resource, {most:,} ÷ {few}", "start.per-resource.cpu", "", 1.2, further),
        Row("start", f"daemon start, {sizes.many:,} × 20: wall", f"start.etcd.{sizes.many}x20.wall", CONFD, 0.3, start),
        Row("scale", f"daemon start, {most:,} × 5: wall", f"{place}.wall", CONFD, 0.4, start),
        Row("scale", f"daemon start, {most:,} × 5: memory", f"{place}.memory", CONFD, 0.65, memory),
    ]


def change(sizes: Sizes) -> list[Row]:
    latency = "From the answer to the put until the file shows it; the floor is a bare reader of the stream of changes"
    used = "Processor time of the daemon for one change, which finds it at rest"
    memory = "Resident memory after some hundred changes"
    rows = []
    for size, late, most in ((1, 0.9, 1.0), (sizes.few, 1.0, 0.95), (sizes.many, 1.0, 0.65)):
        place, among = f"change.etcd.{size}x20", f"{size:,} × 20"
        rows += [
            Row("change", f"latency over its floor, {among}", f"{place}.latency-over-floor", CONFD, late, latency),
            Row("change", f"CPU per change, {among}", f"{place}.cpu", CONFD, 0.9, used),
            Row("change", f"memory, {among}", f"{place}.memory", CONFD, most, memory),
        ]
    return rows


def consul(sizes: Sizes) -> list[Row]:
    place, among = f"change.consul.{sizes.many}x20", f"Consul, {sizes.many:,} × 20"
    meaning = "The same on Consul, beside consul-template, which asks for each resource by itself"
    return [
        Row("change-consul", f"{among}: latency", f"{place}.latency", CONSUL_TEMPLATE, 0.04, meaning),
        Row("change-consul", f"{among}: CPU per change", f"{place}.cpu", CONSUL_TEMPLATE, 0.02, meaning),
        Row("change-consul", f"{among}: memory", f"{place}.memory", CONSUL_TEMPLATE, 0.65, meaning),
    ]


def lasting(sizes: Sizes) -> list[Row]:
    storm = (
        f"Puts to {sizes.many:,} resources, 100 a transaction, as fast as etcd takes them, until all files are final"
    )
    rest = f"What a daemon over {sizes.few} resources does a minute while no key changes"
    growth = f"Resident memory after so many changes, less that before: of {sizes.few} resources, after a warm-up"
    return [
        Row("storm", f"storm of {sizes.storm:,} puts: wall", f"storm.etcd.{sizes.storm}.wall", CONFD, 0.5, storm),
        Row("storm", f"storm of {sizes.storm:,} puts: CPU", f"storm.etcd.{sizes.storm}.cpu", CONFD, None, storm),
        Row("rest", "rest: wake-ups a minute", "rest.etcd.wakeups", "", 10, rest),
        Row("rest", "rest: CPU a minute", "rest.etcd.cpu", "", 0.010, rest),
        Row("growth", f"growth over {sizes.growth:,} changes", "growth.etcd.growth", "", MIB, growth),
    ]


def large(sizes: Sizes) -> list[Row]:
    keys = f"{sizes.many * sizes.keys:,} keys, one changed: CPU"
    many = f"A change among many keys: {sizes.many:,} resources of {sizes.keys}"
    servers = f"haproxy.{sizes.servers}-servers"
    meaning = "One backend of HAProxy with a server for each key, whose value is JSON; one of them changes"
    return [
        Row("keys", keys, f"change.etcd.{sizes.many}x{sizes.keys}.cpu", "", 0.005, many),
        Row("servers", f"{sizes.servers:,} servers from JSON: latency", f"{servers}.latency", CONFD, 1.0, meaning),
        Row("servers", f"{sizes.servers:,} servers from JSON: CPU", f"{servers}.cpu", CONFD, 1.0, meaning),
    ]


def beside(sizes: Sizes) -> list[Row]:
    made = f"storm of {sizes.storm // 2:,} puts, 50 files of one HAProxy"
    storm = (
        "Spread over some seconds; all files share one check and one reload, of which there may be one in two seconds"
    )
    hanging = "The change of a resource while the check of another one has been hanging"
    return [
        Row("reloads", f"{made}: wall", "haproxy.storm.wall", "", None, storm),
        Row("reloads", f"{made}: CPU", "haproxy.storm.cpu", "", None, storm),
        Row("reloads", f"{made}: memory at most", "haproxy.storm.memory", "", None, storm),
        Row("reloads", f"{made}: reloads", "haproxy.storm.reloads", "bound", 1.0, storm),
        Row("hanging", "latency while another check hangs", "hanging.etcd.latency", "", None, hanging),
    ]


def templates(sizes: Sizes) -> list[Row]:
    engine = "A render of a Go template, divided by that of a Jinja template that makes the same"
    cache = "What the resolver of templates takes for many templates in Go's language, which differ"
    made = ("a-backend-of-haproxy", "leaves-of-json", "getv-in-ls-in-lsdir", "choices-among-texts")
    return [
        *(
            Row("templates", f"Go template: {one.replace('-', ' ')}", f"template.{one}.wall", "jinja", None, engine)
            for one in made
        ),
        Row("templates", f"{sizes.many:,} templates: compiled", "template-cache.cold.wall", "", None, cache),
        Row("templates", f"{sizes.many:,} templates: from the cache", "template-cache.warm.wall", "", None, cache),
    ]


def plans() -> list[Row]:
    made = "One changed server among 5,000 of a running HAProxy: both files parsed and compared, the commands made"
    return [Row("plans", "HAProxy without a reload, 5,000 servers: plan", "haproxy.plan.wall", "", 0.03, made)]
