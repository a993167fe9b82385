"""What the process is doing at this moment: every thread and every task, with where it is. For /stacksz."""

import asyncio
import io
import sys
import threading
import traceback

TASKS_MAX = 1000  # shown; there are a few for each link and stream, none for a client


def stacks() -> str:
    """Text for a person, as Python prints stacks."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"thread {names.get(ident, '?')}:\n{''.join(traceback.format_stack(frame))}")
    tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    for task in tasks[:TASKS_MAX]:
        shown = io.StringIO()
        task.print_stack(file=shown)
        parts.append(f"task {task.get_name()}:\n{shown.getvalue()}")
    if len(tasks) > TASKS_MAX:
        parts.append(f"and {len(tasks) - TASKS_MAX} more tasks\n")
    return "\n".join(parts)
