from spooldadd.lifecycle import Policy
from spooldadd.plan import Limits, Plan, from_wire, to_wire


def values(thing):
    names = vars(thing) if isinstance(thing, Plan) else type(thing).__slots__
    return {name: getattr(thing, name) for name in names if name not in ("limits", "policy", "telling")}


def test_a_plan_comes_through_the_wire_as_it_was():
    plan = Plan()
    plan.root, plan.record, plan.command = "/srv/spöol\udcff", "a.1.b", ["sh", "-c", "x\0"]
    plan.environ, plan.stdin, plan.config = {"A": "1"}, b"\0\xff", b"{}"
    plan.limits.timeout_s, plan.limits.memory_bytes = 0.1, 2**40
    plan.policy = Policy(attempts=3, backoff_s=0.1, on=("exit", "oom"), restartable=True)
    plan.telling.on, plan.telling.environ = ["lost"], {"A": "1"}
    back = from_wire(to_wire(plan))
    assert values(back) == values(plan)
    assert values(back.limits) == values(plan.limits)
    assert values(back.policy) == values(plan.policy)
    assert values(back.telling) == values(plan.telling)


def test_an_untouched_plan_has_no_limits_but_a_time_to_end():
    back = from_wire(to_wire(Plan()))
    unset = {name for name in Limits.__slots__ if getattr(back.limits, name) is None}
    assert unset == set(Limits.__slots__) - {"kill_after_s"}
    assert back.policy.on == ()
