"""EndpointSlices and Endpoints: the addresses behind a Service.

Plays pkg/controller/endpointslice, pkg/controller/endpoint and staging/src/k8s.io/endpointslice.
`endpoint` turns a pod into an endpoint, `slices` packs endpoints into slices, `selection` knows
which pods a Service selects, `controller` and `endpoints` are the shells.
"""

from cluster.controllers.endpointslice.controller import EndpointSliceController
from cluster.controllers.endpointslice.endpoints import EndpointsController
from cluster.controllers.endpointslice.mirroring import EndpointSliceMirroringController

__all__ = ["EndpointSliceController", "EndpointSliceMirroringController", "EndpointsController"]
