# SPDX-License-Identifier: Apache-2.0
"""A message view as plain data, for policy engines."""

from __future__ import annotations

_SENSITIVE_HEADERS = frozenset(("authorization", "cookie", "x-api-key"))


def view_data(view, include_content, include_context):
    """Everything about a view that is there."""
    data = {
        "kind": view.kind.value,
        "role": view.role.value,
        "is_pre": view.is_pre,
        "is_post": view.is_post,
        "action": view.action.value,
    }
    if view.hook is not None:
        data["hook"] = view.hook
    _add_true(data, uri=view.uri, name=view.name)
    if include_content:
        _add_content(data, view)
    _add_true(data, mime_type=view.mime_type)
    if view.args is not None:
        data["arguments"] = view.args
    _add_true(data, properties=view.properties)
    if include_context:
        _add_true(data, extensions=_context(view))
    return data


def _add_true(data, /, **values):
    data.update((key, value) for key, value in values.items() if value)


def _add_content(data, view):
    text = view.content
    size = view.size_bytes if text is None else len(text.encode())
    if text is not None:
        data["content"] = text
    if size is not None:
        data["size_bytes"] = size


def _context(view):
    """What the extensions say."""
    headers = {key: value for key, value in view.headers.items() if key.lower() not in _SENSITIVE_HEADERS}
    context = {}
    _add_true(
        context,
        subject=_subject(view.subject),
        environment=view.environment,
        labels=sorted(view.labels),
        headers=headers,
        object=_object(view.object),
        data=_data_policy(view.data_policy),
        agent=_agent(view),
    )
    return context


def _subject(subject):
    if not subject:
        return None
    return {
        "id": subject.id,
        "type": subject.type.value,
        "roles": sorted(subject.roles),
        "permissions": sorted(subject.permissions),
        "teams": sorted(subject.teams),
    }


def _object(profile):
    if not profile:
        return None
    return {name: getattr(profile, name) for name in ("managed_by", "permissions", "trust_domain", "data_scope")}


def _data_policy(policy):
    if not policy:
        return None
    data = {"apply_labels": policy.apply_labels, "denied_actions": policy.denied_actions}
    if policy.allowed_actions is not None:
        data["allowed_actions"] = policy.allowed_actions
    kept = policy.retention
    if kept:
        data["retention"] = {name: getattr(kept, name) for name in ("max_age_seconds", "policy", "delete_after")}
    return data


def _agent(view):
    values = {
        "input": view.agent_input,
        "session_id": view.session_id,
        "conversation_id": view.conversation_id,
        "turn": view.turn,
        "agent_id": view.agent_id,
        "parent_agent_id": view.parent_agent_id,
    }
    return {key: value for key, value in values.items() if value or key == "turn" and value is not None}
