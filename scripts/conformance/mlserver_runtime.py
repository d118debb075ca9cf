"""MLServer's custom runtime over `models.compute`."""

import models
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput


class Computed(MLModel):
    """`affine` decodes and encodes with NumpyCodec; an echo gives the data back as it came."""

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        if self.name != "affine":
            outputs = [
                ResponseOutput(
                    name=tensor.name.replace("in_", "out_", 1),
                    shape=tensor.shape,
                    datatype=tensor.datatype,
                    data=tensor.data,
                )
                for tensor in payload.inputs
            ]
        else:
            try:
                given = {tensor.name: NumpyCodec.decode_input(tensor) for tensor in payload.inputs}
                wanted = [output.name for output in payload.outputs or ()]
                answer = models.chosen(models.compute(self.name, given), wanted)
            except (KeyError, ValueError) as problem:
                raise InferenceError(str(problem)) from problem
            outputs = [NumpyCodec.encode_output(name, array) for name, array in answer.items()]
        return InferenceResponse(model_name=self.name, model_version=self.version, outputs=outputs)
