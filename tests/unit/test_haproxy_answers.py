"""What HAProxy's answers tell: each was given by 2.6 and 3.0."""

from __future__ import annotations

import pytest

from confpy.reload.haproxy import classify


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("clear map /m", "\n"),
        ("add map /m k v", "\n"),
        ("set map /m k v", "\n"),
        ("del acl /a x", ""),
        ("set server b/s weight 10", "\n"),
        ("disable server b/s", "\n"),
        ("enable frontend f", "\n"),
        ("shutdown sessions server b/s", "\n"),
        ("commit map @1 /m", "\n"),
        ("@1 clear map /m", "\n"),
        ("clear map /m; add map /m k v", "\n\n"),
        ("set server b/s addr 127.0.0.2", "IP changed from '127.0.0.1' to '127.0.0.2' by 'stats socket command'\n\n"),
        ("set server b/s addr 127.0.0.2", "no need to change the addr, no need to change the port by 'stats …'\n\n"),
        ("set server b/s addr 127.0.0.2", "nothing changed\n\n"),
        ("add server b/new 127.0.0.1:99", "New server registered.\n\n"),
        ("del server b/new", "Server deleted.\n"),
        ("prepare map /m", "New version created: 1\n\n"),
        ("reload", "Success=1\n--\n[WARNING]  (555) : Former worker (665) exited with code 0 (Exit)\n"),
    ],
)
def test_an_answer_tells_of_success(line, answer):
    assert classify(line, answer) == "done"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("clear map /none", "Unknown map identifier. Please use #<id> or <file>.\n\n"),
        ("clear acl /none", "Unknown ACL identifier. Please use #<id> or <file>.\n\n"),
        ("add map /m k", "'add map' expects three parameters (map identifier, key and value) or one parameter …\n\n"),
        ("set map /m none v", "entry not found.\n\n"),
        ("del map /m none", "Key not found.\n\n"),
        ("set server b/s weight 999", "Absolute weight can only be between 0 and 256 inclusive.\n\n"),
        ("set server b/s weight x", "Empty weight string empty or preceded by garbage\n"),
        ("set server none/s weight 1", "No such backend.\n\n"),
        ("set server b/none weight 1", "No such server.\n\n"),
        ("disable frontend none", "No such frontend.\n\n"),
        ("clear table none", "No such table\n\n"),
        ("set server b/s state nope", "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n\n"),
        ("set server b/s addr nope", "Invalid addr 'nope' by 'stats socket command'\n\n"),
        ("set server b/s nope", "usage: set server <backend>/<server> addr | agent | weight\n\n"),
        ("set server bs weight 1", "Require 'backend/server'.\n\n"),
        ("set ssl cert /none x", "'set ssl cert expects a filename and a certificate as a payload\n\n"),
        ("commit ssl cert /none", "No ongoing transaction! !\nCan't commit /none!\n\n"),
        ("del ssl cert /none", "Can't remove the certificate: certificate '/none' doesn't exist!\n\n\n"),
        ("add server b/new 127.0.0.1:9", "Already exists a server with the same name in backend.\n\n"),
        ("nope", "Unknown command, but maybe one of the following ones is a better match:\n  operator : lower\n"),
        ("nope", "Unknown command: 'nope', but maybe one of the following ones is a better match:\n  operator\n"),
        ("set timeout cli x", "Invalid timeout value.\n\n"),
        ("commit map @9 /m", "Version number out of range.\n\n"),
        ("set server b/s fqdn x", "set server <b>/<s> fqdn failed because no resolution is configured.\n\n"),
        ("enable health b/s", "Health check was not configured on this server, cannot enable.\n\n"),
        ("set server b/s check-port 1", "health checks are not enabled on this server\n"),
        ("set profiling nope", "Expects either 'tasks' or 'memory'.\n\n"),
        ("clear map /m; clear map /none", "\nUnknown map identifier. Please use #<id> or <file>.\n\n"),
        ("clear counters all", "Permission denied\n\n"),
        ("@9 show info", "Can't find the target PID matching the prefix '@9'\n"),
        ("reload", "Success=0\n--\n[ALERT]    (555) : config : Error(s) found in configuration file\n"),
    ],
)
def test_an_answer_tells_of_a_failure(line, answer):
    assert classify(line, answer) == "refused"


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("reload", ""),
        ("show map", "# id (file) description\nNo such thing\n"),
        ("enable frontend f", "All sockets are already enabled.\n\n"),
        ("new ssl cert /n", "New empty certificate store '/n'!\n\n"),
        ("restart", "OK\n"),
        ("clear map /m; reload", "\n"),
    ],
)
def test_other_words_tell_nothing(line, answer):
    assert classify(line, answer) == "unknown"
