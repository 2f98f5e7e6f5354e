variable "location" {
  description = "Azure region, in its short form: westeurope."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]+$", var.location))
    error_message = "location must be a region's short name, lower case without spaces, such as westeurope."
  }
}

variable "project_name" {
  description = "Goes into every name. Lower-case letters and digits: names of registries and storage accounts take nothing else."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,13}$", var.project_name))
    error_message = "project_name must be 2 to 14 lower-case letters and digits that begin with a letter: storage accounts and registries cannot have other names."
  }
}

variable "environment" {
  description = "Goes into every name after the project: dev, staging, prod."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9]{1,10}$", var.environment))
    error_message = "environment must be 1 to 10 lower-case letters and digits: storage accounts and registries cannot have other names."
  }
}

variable "name_suffix" {
  description = "Ends the names that must be unique in all of Azure: the registry's and the storage account's. Not set: five characters that are the subscription's own."
  type        = string
  default     = null

  validation {
    condition     = var.name_suffix == null ? true : can(regex("^[a-z0-9]{0,8}$", var.name_suffix))
    error_message = "name_suffix must be at most 8 lower-case letters and digits."
  }
}

variable "tags" {
  description = "Tags for every resource, beside project, environment and managed-by."
  type        = map(string)
  default     = {}

  validation {
    condition     = length(var.tags) <= 47 && alltrue([for k, v in var.tags : can(regex("^[^<>%&\\\\?/]{1,512}$", k)) && length(v) <= 256])
    error_message = "tags must be at most 47; their names must have 1 to 512 characters without <>%&\\?/ and their values at most 256."
  }
  validation {
    condition     = length(setintersection(keys(var.tags), ["project", "environment", "managed-by"])) == 0
    error_message = "tags must leave project, environment and managed-by to the module."
  }
}

variable "address_space" {
  description = "IPv4 range of the virtual network. Its first /23, or all of it if it is smaller, is the environment's: each running container takes one address."
  type        = string
  default     = "10.64.0.0/16"

  validation {
    condition = can(regex("^[0-9.]+/[0-9]+$", var.address_space)) && can(cidrhost(var.address_space, 0)) ? (
      cidrhost(var.address_space, 0) == split("/", var.address_space)[0] &&
      tonumber(split("/", var.address_space)[1]) >= 8 && tonumber(split("/", var.address_space)[1]) <= 27
    ) : false
    error_message = "address_space must be an IPv4 network such as 10.64.0.0/16, between /8 and /27, which is the least that Container Apps takes."
  }
  validation {
    # Two networks overlap if they are one when cut to the shorter prefix of both.
    condition = can(cidrhost(var.address_space, 0)) ? alltrue([
      for taken in ["100.100.0.0/16", "169.254.0.0/16", "172.30.0.0/16", "172.31.0.0/16", "192.0.2.0/24"] :
      try(cidrhost("${split("/", taken)[0]}/${min(split("/", taken)[1], split("/", var.address_space)[1])}", 0) !=
      cidrhost("${split("/", var.address_space)[0]}/${min(split("/", taken)[1], split("/", var.address_space)[1])}", 0), true)
    ]) : true
    error_message = "address_space must not overlap what Container Apps has for itself: 100.100.0.0/16, 169.254.0.0/16, 172.30.0.0/16, 172.31.0.0/16, 192.0.2.0/24."
  }
}

variable "restrict_outbound" {
  description = "Refuses what containers send, but for HTTPS, the virtual network, and what the platform needs. Otherwise they reach everything, as with Docker."
  type        = bool
  default     = false
  nullable    = false
}

variable "internal_load_balancer" {
  description = "Makes the environment's address one of the virtual network instead of a public one. Jobs have no ingress either way. Changing it makes a new environment."
  type        = bool
  default     = false
  nullable    = false
}

variable "gpu_profile" {
  description = "Serverless GPU for jobs, as the workload profile gpu: Consumption-GPU-NC8as-T4 or Consumption-GPU-NC24-A100, in regions that have it. Not set: none."
  type        = string
  default     = null

  validation {
    condition     = var.gpu_profile == null ? true : contains(["Consumption-GPU-NC8as-T4", "Consumption-GPU-NC24-A100"], var.gpu_profile)
    error_message = "gpu_profile must be Consumption-GPU-NC8as-T4 or Consumption-GPU-NC24-A100."
  }
}

variable "private_dns_zone_name" {
  description = "Private DNS zone of the virtual network, in which its machines register themselves. Not set: PROJECT-ENVIRONMENT.internal."
  type        = string
  default     = null

  validation {
    condition     = var.private_dns_zone_name == null ? true : can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$", var.private_dns_zone_name))
    error_message = "private_dns_zone_name must be two or more labels of lower-case letters, digits and inner hyphens, such as sockerless.internal."
  }
}

variable "log_retention_days" {
  description = "How long Log Analytics keeps what containers wrote."
  type        = number
  default     = 30

  validation {
    condition     = var.log_retention_days >= 30 && var.log_retention_days <= 730 && floor(var.log_retention_days) == var.log_retention_days
    error_message = "log_retention_days must be a whole number from 30 to 730."
  }
}

variable "log_daily_quota_gb" {
  description = "At how many GB a day Log Analytics stops taking logs until the next day; -1 for never. It is the largest cost that containers can run up by writing alone."
  type        = number
  default     = 5

  validation {
    condition     = var.log_daily_quota_gb == -1 || var.log_daily_quota_gb >= 0.023
    error_message = "log_daily_quota_gb must be -1 for no limit, or at least 0.023, the least that Log Analytics takes."
  }
}

variable "storage_replication" {
  description = "How the storage account keeps copies: LRS, ZRS, GRS, RAGRS, GZRS or RAGZRS."
  type        = string
  default     = "LRS"

  validation {
    condition     = contains(["LRS", "ZRS", "GRS", "RAGRS", "GZRS", "RAGZRS"], var.storage_replication)
    error_message = "storage_replication must be one of LRS, ZRS, GRS, RAGRS, GZRS, RAGZRS."
  }
}

variable "shares" {
  description = "Azure Files shares, each with its quota in GiB. Every one is a storage of the environment by the same name."
  type        = map(number)
  default     = { volumes = 100 }

  validation {
    # Shares may have 63 characters, but storages of an environment have 32.
    condition     = alltrue([for name, quota in var.shares : can(regex("^[a-z0-9](-?[a-z0-9])+$", name)) && length(name) >= 3 && length(name) <= 32])
    error_message = "shares must have names of 3 to 32 lower-case letters, digits and single inner hyphens."
  }
  validation {
    condition     = alltrue([for name, quota in var.shares : quota >= 1 && quota <= 102400 && floor(quota) == quota])
    error_message = "shares must have quotas of whole GiB from 1 to 102400."
  }
}

variable "acr_sku" {
  description = "The container registry's tier: Basic, Standard or Premium."
  type        = string
  default     = "Basic"

  validation {
    condition     = contains(["Basic", "Standard", "Premium"], var.acr_sku)
    error_message = "acr_sku must be Basic, Standard or Premium."
  }
}

variable "state_table" {
  description = "Table of the storage account in which the backend keeps its state, so that its disk may be lost: sockerless. The backend makes it. Not set: the state is in the backend's data folder."
  type        = string
  default     = null

  validation {
    condition     = var.state_table == null ? true : can(regex("^[A-Za-z][A-Za-z0-9]{2,62}$", var.state_table)) && lower(coalesce(var.state_table, "-")) != "tables"
    error_message = "state_table must be 3 to 63 letters and digits that begin with a letter, and not tables."
  }
}

variable "volumes_and_builds" {
  description = "Whether the backend gets what volumes, builds and copies of public images take: the shares and keys of the storage account, and tasks and imports of the registry. No version of the backend uses these rights yet."
  type        = bool
  default     = false
}

variable "backend_principals" {
  description = "Object ids of users, groups or applications that may run the backend too, with the rights of its identity: your own is `az ad signed-in-user show --query id -o tsv`."
  type        = set(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.backend_principals : can(regex("^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$", id))])
    error_message = "backend_principals must be object ids, which are GUIDs, not names."
  }
}

variable "callback_url" {
  description = "Where containers will reach the backend: the http or https URL of the machine that you run it on. Not set: you set SOCKERLESS_CALLBACK_URL there yourself."
  type        = string
  default     = null

  validation {
    condition     = var.callback_url == null ? true : can(regex("^https?://[a-zA-Z0-9.:\\[\\]-]+(/[a-zA-Z0-9._~/-]*)?$", var.callback_url))
    error_message = "callback_url must be an http or https URL without user, query or fragment, such as https://backend.example.com."
  }
}

variable "deploy_backend" {
  description = "Runs the backend in the environment, as a container app, with its state in a table. It takes backend_image."
  type        = bool
  default     = false
  nullable    = false
}

variable "backend_image" {
  description = "Image of the backend that deploy_backend runs, registry and tag or digest included: what sockerless push-images has pushed and printed, or one that is public."
  type        = string
  default     = null

  validation {
    condition     = var.backend_image == null ? true : can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$", var.backend_image)) && can(regex("[:@][^/]+$", var.backend_image))
    error_message = "backend_image must be registry/repository with a tag or a digest, such as name.azurecr.io/sockerless/backend@sha256:..."
  }
}

variable "agent_image" {
  description = "Image that containers take their agent from. Not set: the backend pushes its own into the registry."
  type        = string
  default     = null

  validation {
    condition     = var.agent_image == null ? true : can(regex("^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?$", var.agent_image)) && can(regex("[:@][^/]+$", var.agent_image))
    error_message = "agent_image must be registry/repository with a tag or a digest, such as name.azurecr.io/sockerless/agent@sha256:..."
  }
}

variable "backend_cpu" {
  description = "Cores of the backend that deploy_backend runs, each with 2 GiB of memory."
  type        = number
  default     = 0.5

  validation {
    condition     = var.backend_cpu >= 0.25 && var.backend_cpu <= 4 && floor(var.backend_cpu * 4) == var.backend_cpu * 4
    error_message = "backend_cpu must be a multiple of 0.25 from 0.25 to 4: Container Apps has no other sizes."
  }
}

variable "backend_token_version" {
  description = "Another number makes another backend_token, and the one before worthless."
  type        = number
  default     = 1

  validation {
    condition     = var.backend_token_version >= 1 && floor(var.backend_token_version) == var.backend_token_version
    error_message = "backend_token_version must be a whole number from 1 on."
  }
}
