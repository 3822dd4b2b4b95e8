"""The SROS2 policy allows exactly what the nodes of a physical arm do: compared with the live graph, both ways."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from xml.etree import ElementTree

import pytest
from bundles import write_bundle
from conftest import REPOSITORY, claim_domain, wait_until
from latent_mpc.bags.profiles import OWN_TOPICS
from latent_mpc.bringup import MODULES
from latent_mpc.topic_names import OURS

FILE = REPOSITORY / "launch" / "security" / "policy.xml"
NODES = ("framing_node", "perception_node", "planner_node", "guardrail_node")
SERVICES = ("arm", "stop", "reset", "cancel", "snapshot")
# What a node does with another bundle, in shadow, or behind a framing node; the nodes of this test have none of these.
OTHERWISE = {
    "perception_node": {"publish": {"/perception/witness"}, "subscribe": {"/joint_states", "/framed/image_raw"}},
    "planner_node": {"subscribe": {"/perception/witness"}},
    "guardrail_node": {"publish": {"/guardrail/shadow"}, "subscribe": {"/framed/camera_info"}},
}


def expanded(name, node):
    """A name of a policy as SROS2 expands it: ``~`` is the node, without a slash it lies in the node's namespace, the root."""
    return f"/{node}/{name[1:]}" if name.startswith("~") else f"/{name.lstrip('/')}"


@pytest.fixture(scope="module")
def policy():
    """What each node may do: ``{node: {"publish": {topics}, "subscribe": ..., "reply": {services}, "request": ...}}``."""
    allowed = {}
    for context in ElementTree.parse(FILE).getroot().iter("context"):
        for profile in context.iter("profile"):
            node = profile.get("node")
            rules = defaultdict(set)
            for group in profile:
                for right in ("publish", "subscribe", "reply", "request"):
                    if group.get(right) is not None:
                        assert group.get(right) == "ALLOW"
                        rules[right] |= {expanded(element.text, node) for element in group}
            assert context.get("path") == f"/latent_mpc/{node}" and profile.get("ns") == "/"
            allowed[node] = rules
    return allowed


def test_the_policy_has_the_form_that_sros2_reads():
    root = ElementTree.parse(FILE).getroot()
    assert root.tag == "policy" and root.get("version") == "0.2.0"
    groups = {element.tag for profile in root.iter("profile") for element in profile}
    assert groups == {"topics", "services"}
    assert all(element.text and element.text == element.text.strip() for element in root.iter() if element.tag in ("topic", "service"))


def test_it_allows_exactly_what_the_nodes_do(policy, start_node, tmp_path, monkeypatch):
    import rclpy

    # A domain of its own: nodes of earlier tests may be listed for long after they left, with little in them, before those of this test.
    domain = claim_domain()
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    watcher = rclpy.create_node("policy_watcher", context=context)

    def seen(name):
        return {
            "publish": {topic for topic, _ in watcher.get_publisher_names_and_types_by_node(name, "/")},
            "subscribe": {topic for topic, _ in watcher.get_subscriber_names_and_types_by_node(name, "/")},
            # Humble's nodes do not have the last one.
            "reply": {service for service, _ in watcher.get_service_names_and_types_by_node(name, "/")} | {f"/{name}/get_type_description"},
            "request": {service for service, _ in watcher.get_client_names_and_types_by_node(name, "/")},
        }

    blank = {"publish": set(), "subscribe": set(), "reply": set(), "request": set()}

    def allowed(name):
        otherwise = OTHERWISE.get(name, {})
        assert all(topics <= policy[name][right] for right, topics in otherwise.items())
        return {**blank, **{right: topics - otherwise.get(right, set()) for right, topics in policy[name].items()}}

    bundle = write_bundle(tmp_path / "untrained")
    try:
        # One after the other: where several come at once, Fast DDS 3.2.3 may lock one up at its start.
        for name in NODES:
            start_node(MODULES[name], *(("-p", f"model:={bundle}") if name in ("perception_node", "planner_node") else ()))
            with contextlib.suppress(AssertionError):
                wait_until(lambda name=name: name in watcher.get_node_names() and seen(name) == allowed(name), 60.0)
            assert seen(name) == allowed(name)
    finally:
        watcher.destroy_node()
        rclpy.shutdown(context=context)


def test_an_operator_may_do_what_a_person_does_and_command_nothing(policy):
    operator = policy["operator"]
    answered = {service for name in ("guardrail_node", "planner_node", "recorder_node") for service in policy[name]["reply"]}
    services = {service for service in answered if service.rpartition("/")[2] in SERVICES}
    assert services and services <= operator["request"]
    assert operator["publish"] & set(OURS) == {"/goal/image", "/planner/zones"}
    commanders = {node for node, rules in policy.items() if any("controller" in topic for topic in rules["publish"])}
    assert commanders == {"guardrail_node"}


def test_the_recorder_may_read_everything_and_say_nothing_of_ours(policy):
    recorder = policy["recorder_node"]
    assert set(OURS) - {topic for topic in OURS if topic.startswith(("/sim", "/overview"))} <= recorder["subscribe"]
    assert {topic for topic in OWN_TOPICS if not topic.startswith(("/sim", "/overview"))} <= recorder["subscribe"]
    assert "/recorder_node/snapshot" in recorder["reply"]
    assert not recorder["publish"] & set(OURS)
