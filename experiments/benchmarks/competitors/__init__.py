"""The same work in other ways: each module has `prepare(work, **options)`, which gives a run to be timed.

All of them draw one coin a replica and step, and one normal a coordinate where there is noise. Where the
second gradient of a quadratic is cheaper as g_adv = g + lam (y - x), they use that.
"""
