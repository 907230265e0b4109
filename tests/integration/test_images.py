"""Images built from our definitions do what they are for."""

from __future__ import annotations

from pathlib import Path

from gridtune_common.client import new_request_id
from gridtune_common.protocol import CreateToken, PointState, Scope
from gridtune_steering import agentfile
from real_service import RealService
from servers.docker import IMAGE, Docker
from service_bench import document

ROOT = Path(__file__).parents[2]
#: Somebody without a name, as clusters like it.
ANYBODY = "12345:12345"
TRAIN = "import gridtune; gridtune.result(loss=(gridtune.params()['x'] - 1) ** 2)\n"
PAYLOAD = {"command": "python3 train.py", "files": ["train.py"]}


def test_an_image_with_the_agent_evaluates_its_own_tasks(service: RealService, docker: Docker, tmp_path: Path) -> None:
    """The payload of a task that names the image runs beside the agent in it, whoever the user is."""
    agentfile.write(agentfile.agent_file(), tmp_path / "dist")
    image = "localhost/tests/with-agent"
    definition = str(ROOT / "containers" / "evaluation.Dockerfile")
    docker.build(image, tmp_path / "dist", "--file", definition, f"--build-arg=BASE_IMAGE={IMAGE}")
    task = service.submit(document(points=2, payload={**PAYLOAD, "image": image}), train_py=TRAIN)
    with service.client() as client:
        secret = client.create_token(CreateToken(new_request_id(), Scope.TASK, task=task)).secret
    flags = ["--rm", "--network=host", f"--user={ANYBODY}", f"--env=GRIDTUNE_TOKEN={secret}"]

    docker.run("run", *flags, image, "gridtune-agent", "--server", service.url, "--task", task)

    assert [point.state for point in service.export(task).points] == [PointState.DONE] * 2
