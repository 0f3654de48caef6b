"""The demo: the main job at full size on one machine, shown live and checked request by request.

`python -m groupage_emulator.demo` starts an embedded Redis, an emulated Azure with three regions, a fleet of real
workers and three producer services, each a process of its own. It shows what they do, and at the end it compares what
the producers got with what the emulator billed.

The worker is started by its command line and never imported: the demo sees of it what an operator would see.
"""
