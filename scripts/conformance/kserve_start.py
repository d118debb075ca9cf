"""KServe's model server over `models.compute`: FOLDER PORT GRPC_PORT."""

import sys

import kserve
import models
from kserve.errors import InvalidInput
from kserve.utils.utils import generate_uuid


class Computed(kserve.Model):
    """One model; what it takes and gives is declared, what does not fit is refused as its guide says."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.ready = True

    def get_input_types(self) -> list[dict]:
        return models.metadata(models.MODELS[self.name][0])

    def get_output_types(self) -> list[dict]:
        return models.metadata(models.MODELS[self.name][1])

    async def predict(self, payload, headers=None, response_headers=None):
        try:
            given = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
            wanted = [output.name for output in payload.request_outputs or ()]
            outputs = models.chosen(models.compute(self.name, given), wanted)
        except (KeyError, ValueError) as problem:
            raise InvalidInput(str(problem)) from problem
        kinds = {name: kind for name, kind, _ in models.MODELS[self.name][1]}
        tensors = []
        for name, array in outputs.items():
            tensor = kserve.InferOutput(name=name, shape=list(array.shape), datatype=kinds[name])
            tensor.set_data_from_numpy(array, binary_data=payload.use_binary_outputs)
            tensors.append(tensor)
        return kserve.InferResponse(
            response_id=payload.id or generate_uuid(),
            model_name=self.name,
            infer_outputs=tensors,
            from_grpc=payload.from_grpc,
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )


if __name__ == "__main__":
    server = kserve.ModelServer(http_port=int(sys.argv[2]), grpc_port=int(sys.argv[3]), workers=1)
    server.start([Computed(name) for name in models.MODELS])
